"use strict";
// Everything shown here was counted when the report was written; this script looks it up.
(() => {
  const root = document.documentElement;
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("report-data").textContent);
  root.classList.add("js");

  // Colours: as the system has it, until someone chooses.
  const themes = [["", "Auto", "as the system has it"], ["light", "Light", "light"], ["dark", "Dark", "dark"]];
  const stored = () => { try { return localStorage.getItem("insphere-theme") || ""; } catch { return ""; } };
  const store = (name) => { try { localStorage.setItem("insphere-theme", name); } catch { /* a file may have no storage */ } };
  const showTheme = (name) => {
    const [, label, words] = themes.find((theme) => theme[0] === name) || themes[0];
    if (name) root.dataset.theme = name; else delete root.dataset.theme;
    find("theme").lastElementChild.textContent = label;
    find("theme").setAttribute("aria-label", `Colours: ${words}`);
  };
  let theme = stored();
  showTheme(theme);
  find("theme").addEventListener("click", () => {
    theme = themes[(themes.findIndex((entry) => entry[0] === theme) + 1) % themes.length][0];
    store(theme);
    showTheme(theme);
  });

  // Numbers.
  const percent = (value) => (Number.isNaN(value) ? "–" : `${(100 * value).toFixed(1)} %`);
  const range = (low, high) => `${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)}`;
  const number = (value) => String(Number(value.toPrecision(4)));
  // Wilson's score interval, as insphere.estimate.proportion has it.
  const wilson = (hits, n) => {
    const z = 1.959963984540054, square = z * z, share = hits / n;
    const centre = (share + square / (2 * n)) / (1 + square / n);
    const half = (z / (1 + square / n)) * Math.sqrt((share * (1 - share)) / n + square / (4 * n * n));
    return [Math.min(share, Math.max(0, centre - half)), Math.max(share, Math.min(1, centre + half))];
  };
  const write = (id, text) => { const element = find(id); if (element) element.textContent = text; };
  const writeRate = (name, hits, n) => {
    write(`n-${name}`, hits);
    write(`rate-${name}`, n ? percent(hits / n) : "–");
    write(`interval-${name}`, n ? range(...wilson(hits, n)) : "");
  };

  // The threshold.
  const slider = find("slider"), rate = find("rate"), last = data.thresholds.length - 1;
  let stop = data.chosen, spoken = 0;

  const sentence = () => {
    const at = `Threshold ${number(data.thresholds[stop])}`;
    const of = (name) => `${data.flagged[name][stop]} of ${data.sizes[name]}`;
    return data.flagged.all ? `${at}: ${of("all")} rows flagged.` : `${at}: ${of("anomaly")} anomalies found, ${of("normal")} normal rows flagged.`;
  };
  const showCounts = () => {
    for (const name of Object.keys(data.flagged)) writeRate(name, data.flagged[name][stop], data.sizes[name]);
    if (!data.flagged.all) {
      const hits = data.flagged.anomaly[stop], flagged = hits + data.flagged.normal[stop];
      writeRate("precision", hits, flagged);
      write("n-flagged", flagged);
    }
    if (data.expected.length) {
      const [value, low, high] = data.expected[stop];
      write("rate-expected", percent(value));
      write("interval-expected", range(low, high));
    }
    write("value", number(data.thresholds[stop]));
    const lines = document.querySelectorAll(".types tbody tr");
    data.types.forEach((type, place) => {
      lines[place].querySelector(".n-type").textContent = type.flagged[stop];
      lines[place].querySelector(".fill").setAttribute("width", (100 * type.flagged[stop]) / type.size);
    });
  };
  const dot = (id, x, y) => { const point = find(id); if (point) point.setAttribute("d", Number.isNaN(x + y) ? "" : `M${1000 * x} ${1000 * (1 - y)}h0`); };
  const showPlaces = () => {
    const x = (1000 * data.places[stop]).toFixed(1);
    find("line").setAttribute("d", `M${x} 0V1000`);
    find("beyond").setAttribute("x", x);
    find("beyond").setAttribute("width", 1000 - x);
    if (data.radii) find("ring").setAttribute("r", 485 * data.radii[stop]);
    if (data.unitsPerScore) find("disc").setAttribute("r", data.unitsPerScore * Math.max(0, data.thresholds[stop]));
    if (!data.flagged.all) {
      const hits = data.flagged.anomaly[stop], alarms = data.flagged.normal[stop], recall = hits / data.sizes.anomaly;
      dot("roc-point", alarms / data.sizes.normal, recall);
      dot("pr-point", recall, hits / (hits + alarms));
    }
  };
  const tiles = [...document.querySelectorAll(".tile")].map((element) => [element, Number(element.dataset.score)]);
  const show = (next, { keepSlider = false, keepRate = false } = {}) => {
    stop = Math.max(0, Math.min(last, next));
    showCounts();
    showPlaces();
    for (const [element, score] of tiles) element.classList.toggle("flagged", score > data.thresholds[stop]);
    if (!keepSlider) slider.value = data.places[stop];
    if (rate && !keepRate) rate.value = (100 * data.expected[stop][0]).toFixed(1);
    slider.setAttribute("aria-valuetext", sentence() + (data.expected.length ? ` False alarms to expect: ${percent(data.expected[stop][0])}.` : ""));
    // Said once the hand rests, not at every step of it.
    clearTimeout(spoken);
    spoken = setTimeout(() => { find("status").textContent = sentence(); }, 150);
  };
  const nearest = (place) => {
    let low = 0, high = last;
    while (high - low > 1) { const middle = (low + high) >> 1; if (data.places[middle] <= place) low = middle; else high = middle; }
    return place - data.places[low] <= data.places[high] - place ? low : high;
  };
  slider.addEventListener("input", () => show(nearest(Number(slider.value)), { keepSlider: true }));
  slider.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -20, PageUp: 20, Home: -last, End: last };
    if (event.key in steps) { event.preventDefault(); show(stop + steps[event.key]); }
  });
  const histogram = find("histogram");
  const drag = (event) => {
    const box = histogram.getBoundingClientRect();
    show(nearest(Math.max(0, Math.min(1, (event.clientX - box.left) / box.width))));
  };
  histogram.addEventListener("pointerdown", (event) => { histogram.setPointerCapture(event.pointerId); drag(event); });
  histogram.addEventListener("pointermove", (event) => { if (histogram.hasPointerCapture(event.pointerId)) drag(event); });
  if (rate) {
    rate.addEventListener("input", () => {
      const wanted = Number(rate.value) / 100 + 1e-9, found = data.expected.findIndex(([value]) => value <= wanted);
      if (rate.value !== "") show(found < 0 ? last : found, { keepRate: true });
    });
  }
  find("reset").addEventListener("click", () => show(data.chosen));
  show(data.chosen);

  // One type of anomaly against the others.
  const choices = [...document.querySelectorAll(".type")];
  const chooseType = (chosen) => {
    const type = chosen && chosen.getAttribute("aria-pressed") === "false" ? chosen.closest("tr").dataset.type : "";
    for (const button of choices) button.setAttribute("aria-pressed", String(type !== "" && button.closest("tr").dataset.type === type));
    for (const curve of document.querySelectorAll("#curves .curve")) curve.classList.toggle("chosen", curve.dataset.type === type);
  };
  for (const button of choices) button.addEventListener("click", () => chooseType(button));

  // Images.
  const viewer = find("viewer");
  if (!viewer) return;
  let shown = null;
  const open = (button) => {
    shown = button;
    const [image, heat] = button.querySelectorAll("img"), { name, type, label, p } = button.dataset;
    const score = Number(button.parentElement.dataset.score);
    find("viewer-image").src = image.src;
    find("viewer-image").alt = name;
    find("viewer-heat-figure").hidden = !heat;
    if (heat) { find("viewer-heat").src = heat.src; find("viewer-heat").alt = `Heat-map of ${name}`; }
    find("viewer-name").textContent = name;
    const decision = score > data.thresholds[stop] ? "flagged" : "not flagged";
    find("viewer-facts").textContent = [type || label, `score ${number(score)}`, `p-value ${p}`, decision].filter(Boolean).join(" · ");
    if (!viewer.open) viewer.showModal();
  };
  const go = (step) => {
    const all = [...shown.closest(".tiles").querySelectorAll("button")];
    open(all[(all.indexOf(shown) + step + all.length) % all.length]);
  };
  for (const button of document.querySelectorAll(".tiles button")) button.addEventListener("click", () => open(button));
  find("previous").addEventListener("click", () => go(-1));
  find("next").addEventListener("click", () => go(1));
  find("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") go(-1);
    if (event.key === "ArrowRight") go(1);
  });
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => shown.focus());
})();
