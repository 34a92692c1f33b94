# insphere serve in a container: models are mounted, nothing is downloaded while it runs, and it runs as nobody.
#
#   docker build -t insphere .
#   docker run --rm -p 8080:8080 -v "$PWD/models:/models:ro" -e INSPHERE_API_KEY=... --read-only --tmpfs /tmp insphere
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
# PyTorch's CPU build: the default one for Linux brings CUDA, some gigabytes.
RUN pip install --no-cache-dir -c /tmp/constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
        "insphere[serve] @ file://$(ls /wheels/*.whl)" \
    && rm -rf /wheels /tmp/constraints.txt
USER nobody
ENV OMP_NUM_THREADS=1 MPLCONFIGDIR=/tmp
EXPOSE 8080
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/v2/health/live', timeout=3)"]
ENTRYPOINT ["insphere"]
CMD ["serve", "/models", "--host", "0.0.0.0"]
