# syntax=docker/dockerfile:1
# Two stages: what is needed to build stays behind. The installing commands are those of the Makefile.
FROM python:3.13-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /app/.venv
COPY requirements/service.txt requirements/build.txt requirements/
RUN .venv/bin/python -m pip --disable-pip-version-check --no-input install --no-cache-dir --require-hashes \
    -r requirements/service.txt -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY migrations migrations
COPY src src
RUN .venv/bin/python -m pip --disable-pip-version-check --no-input install --no-cache-dir --no-deps --no-build-isolation . \
    && .venv/bin/python -m pip --disable-pip-version-check uninstall --yes --quiet hatchling editables trove-classifiers

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="Holdfast" \
      org.opencontainers.image.description="A booking service in which nothing is ever booked twice" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --system --gid 10001 holdfast && useradd --system --uid 10001 --gid holdfast --no-create-home holdfast
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOLDFAST_HOST=0.0.0.0 \
    HOLDFAST_PORT=8080
WORKDIR /app
USER holdfast
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['HOLDFAST_PORT']}/readyz\", timeout=2)"]
CMD ["holdfast", "serve"]
