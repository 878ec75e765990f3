# One image for `capio serve`, `capio ledger`, `capio console` and `capio migrate`:
#
#   docker build -t capio-gateway .
#   docker run -p 8080:8080 -v "$PWD/capio.toml:/etc/capio/capio.toml:ro" -v capio:/var/lib/capio \
#     -e DEEPSEEK_API_KEY capio-gateway
#
# In the configuration `server.host` and `metrics.host` must be "0.0.0.0", and `server.data_dir`
# "/var/lib/capio" or absent. The root file system may be read-only; /tmp must be writable. Every
# command finds the configuration: `docker exec CONTAINER capio doctor`.
# For several architectures: docker buildx build --platform linux/amd64,linux/arm64. All packages
# have wheels for both.
#
# The hot path is compiled; --build-arg CAPIO_COMPILE=0 leaves it as it is. The base is the fastest
# Python on which all tests pass. docs/decisions/0027-compiled-build.md says more about both.
#
# The base has no digest here, because an outdated digest keeps its vulnerabilities. Release
# builds give the one that they have scanned: --build-arg BASE=python:3.14-slim@sha256:...
ARG BASE=python:3.14-slim
FROM ${BASE} AS wheel

# The compiler is not in the image that is run, so any version of the base will do.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
WORKDIR /src
COPY requirements.lock /src/
# The packages that are run, without the debugging information of their shared libraries, which is
# a fifth of their size. The compiler reads their types, and finds them by the .pth file.
RUN pip install --no-cache-dir --no-compile --only-binary :all: --require-hashes \
        --target /opt/packages -r requirements.lock \
    && find /opt/packages -name '*.so' -exec strip --strip-debug {} + \
    && python -m compileall -q /opt/packages \
    && echo /opt/packages > "$(python -c 'import sysconfig as s; print(s.get_path("purelib"))')/run.pth"
COPY requirements-compile.lock /src/
RUN pip install --no-cache-dir --only-binary :all: --require-hashes -r requirements-compile.lock
COPY pyproject.toml /src/
COPY README.md /src/
COPY LICENSE /src/
COPY hatch_build.py /src/
COPY docs /src/docs
COPY gateway /src/gateway
ARG CAPIO_COMPILE=1
RUN CAPIO_COMPILE=${CAPIO_COMPILE} pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && python -m zipfile -e /wheel/*.whl /capio

FROM ${BASE}

COPY --from=wheel /opt/packages /opt/packages
COPY --from=wheel /capio /opt/capio
COPY requirements.lock /opt/capio/
COPY deploy/sbom.py /opt/capio/
# Nothing is imported from the working directory, which is a volume. mimalloc returns the memory of
# clients that have left, at the same CPU for a call (bench/README.md, "Memory of many streams").
ENV PYTHONPATH=/opt/capio:/opt/packages PYTHONSAFEPATH=1 PYTHONMALLOC=mimalloc \
    CAPIO_CONFIG=/etc/capio/capio.toml
# The base has no bytecode of the standard library: importing every module writes what they use of
# it. Otherwise each process that cannot write there would compile it again.
RUN python -m compileall -q /opt/capio/gateway \
    && python -c "import importlib, pkgutil, gateway; [importlib.import_module(m.name) \
        for m in pkgutil.walk_packages(gateway.__path__, 'gateway.') if '__main__' not in m.name]" \
    && python /opt/capio/sbom.py /opt/capio/requirements.lock > /opt/capio/sbom.cdx.json \
    && printf '#!/bin/sh\nexec python -m gateway.cli "$@"\n' > /usr/local/bin/capio \
    && chmod 755 /usr/local/bin/capio \
    && groupadd --gid 10001 capio \
    && useradd --no-log-init --uid 10001 --gid 10001 --home-dir /var/lib/capio --no-create-home capio \
    && install -d -o capio -g capio /var/lib/capio

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Capio" \
      org.opencontainers.image.description="A gateway for LLM APIs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

USER 10001:10001
WORKDIR /var/lib/capio
VOLUME /var/lib/capio
EXPOSE 8079 8080 9464
STOPSIGNAL SIGTERM
# For `capio serve` on port 8080; Kubernetes and deploy/compose.yaml have their own.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["capio"]
CMD ["serve"]
