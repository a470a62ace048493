# Every process of the service: `docker run <image> process chat`, `... migrate`, `... doctor`.
# Build it with PYTHON_IMAGE at a digest of your own choice where builds must be repeatable.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim

# -- builder: a virtual environment from requirements.lock, every hash checked; no compiler is needed ------------------
FROM ${PYTHON_IMAGE} AS builder

# `worker` alone leaves the provider's stand-in, the embedded Valkey and the MCP client out.
ARG EXTRAS="worker emulator mcp"
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
WORKDIR /source

# The backend's environment and the service's are apart: no pip and no setuptools in the image's environment.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/fireworks-workers

# First what changes seldom, so that a change of our code does not install the lock again.
COPY pyproject.toml requirements.lock ./
COPY scripts/worker_lock.py scripts/
# Unquoted: the names of extras become words.
# hadolint ignore=SC2086
RUN python3 scripts/worker_lock.py build > /build/build.lock \
    && python3 scripts/worker_lock.py ${EXTRAS} > /build/worker.lock \
    && /build/bin/pip install --require-hashes -r /build/build.lock \
    && /build/bin/pip --python /opt/fireworks-workers/bin/python install --no-compile \
        --require-hashes --only-binary :all: -r /build/worker.lock

COPY README.md LICENSE Procfile ./
COPY api_contracts api_contracts
COPY workers workers
# Bytecode that is checked by content and not by date is never out of date, and nothing is written at run time.
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /build/wheels . \
    && /build/bin/pip --python /opt/fireworks-workers/bin/python install --no-compile --no-deps /build/wheels/*.whl \
    && /build/bin/pip --python /opt/fireworks-workers/bin/python check \
    && /opt/fireworks-workers/bin/python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash /opt/fireworks-workers/lib

# -- the image ---------------------------------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE}

LABEL org.opencontainers.image.title="Fireworks Workers" \
      org.opencontainers.image.description="Fireworks AI behind a message queue: durable runs on Celery and Redis" \
      org.opencontainers.image.licenses="MIT"

COPY --from=builder /opt/fireworks-workers /opt/fireworks-workers
COPY --chmod=0755 scripts/probe.py /usr/local/bin/fw-probe
# The only place that is written to besides /tmp; a volume or a tmpfs belongs here when the root is read-only.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/fireworks-workers

ENV PATH=/opt/fireworks-workers/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    FW_STATE_DIR=/var/lib/fireworks-workers \
    FW_MONITOR_HOST=0.0.0.0 \
    FW_MONITOR_PORT=9464

# By number: Kubernetes cannot tell from a name that it is not root.
USER 10001:10001
WORKDIR /var/lib/fireworks-workers
EXPOSE 9464

# Kubernetes has probes of its own and does not look at this one.
HEALTHCHECK --interval=10s --timeout=5s --start-period=40s --retries=3 CMD ["fw-probe"]
ENTRYPOINT ["fireworks-workers"]
CMD ["--help"]
