"use strict";
const at = (id) => document.getElementById(id);

const headers = (extra) => (at("key").value ? { "X-API-Key": at("key").value, ...extra } : { ...extra });
const say = (text, bad = false) => { at("status").textContent = text; at("status").className = bad ? "bad" : ""; };
const digits = (value) => (value === null ? "none" : Number(value.toPrecision(6)).toString());
const element = (tag, text, className) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};

async function ask(path, options) {
  let answer;
  try { answer = await fetch(path, options); } catch { throw new Error("The service cannot be reached."); }
  if (answer.status === 401) { at("locked").hidden = false; at("tool").hidden = true; at("key").focus(); }
  const content = await answer.json().catch(() => ({ error: `The service answered ${answer.status}.` }));
  if (!answer.ok) throw new Error(content.error);
  return content;
}

function picture(source, caption, className) {
  const figure = element("figure", undefined, className);
  const image = element("img");
  image.src = source;
  image.alt = caption;
  figure.append(image, element("figcaption", caption));
  return figure;
}

function link(path, text) {
  const made = element("a", text);
  made.href = path;
  return made;
}

