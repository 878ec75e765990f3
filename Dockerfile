# One image for `capio serve`, `capio ledger` and `capio migrate`:
#
#   docker build -t capio-gateway .
#   docker run -p 8080:8080 -v "$PWD/capio.toml:/etc/capio/capio.toml:ro" -v capio:/var/lib/capio \
#     -e DEEPSEEK_API_KEY capio-gateway
#
# In the configuration `server.host` and `metrics.host` must be "0.0.0.0", and `server.data_dir`
# "/var/lib/capio" or absent. The root file system may be read-only; /tmp must be writable.

FROM python:3.11-slim

COPY requirements.lock /opt/capio/
RUN pip install --no-cache-dir --only-binary :all: --require-hashes -r /opt/capio/requirements.lock

COPY gateway /opt/capio/gateway
COPY docs /opt/capio/gateway/console/docs/repository/
ENV PYTHONPATH=/opt/capio
RUN python -m compileall -q /opt/capio/gateway \
    && printf '#!/bin/sh\nexec python -m gateway.cli "$@"\n' > /usr/local/bin/capio \
    && chmod 755 /usr/local/bin/capio \
    && useradd --system --uid 10001 --home-dir /var/lib/capio --create-home capio

USER 10001
WORKDIR /var/lib/capio
VOLUME /var/lib/capio
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["capio"]
CMD ["serve", "--config", "/etc/capio/capio.toml"]
