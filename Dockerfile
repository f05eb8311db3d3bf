# The image of every role: `docker build -t headrace .`; docs/operations.md tells how to run it.
# The interpreter is the one that the tests and the fault campaigns ran on.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY schemas schemas
COPY streams streams
COPY topologies topologies
COPY replay replay
COPY headrace headrace
# Of the extras only the webhooks' signatures: the broker is a container of its own. Only wheels, so nothing is compiled,
# and no pip in what is copied on.
RUN python -m venv --without-pip /opt/headrace \
    && python -m pip --python /opt/headrace/bin/python install --no-cache-dir --disable-pip-version-check --only-binary :all: '.[ed25519]'

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/headrace --shell /usr/sbin/nologin headrace \
    && install -d -o headrace -g headrace -m 0750 /var/lib/headrace
COPY --from=build /opt/headrace /opt/headrace
# HEADRACE_WEB_HOST: whoever scrapes /metrics is another container; the host sees it only where a port is published.
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEADRACE_HOME=/var/lib/headrace \
    HEADRACE_WEB_HOST=0.0.0.0 \
    HEADRACE_PORT=6066
USER headrace
WORKDIR /var/lib/headrace
# Stores and slots: a worker that comes back with them goes on at once, one without reads its changelog.
VOLUME /var/lib/headrace
EXPOSE 6065 6066 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(f'http://127.0.0.1:{os.environ[\"HEADRACE_PORT\"]}/livez', timeout=4)"]
ENTRYPOINT ["headrace"]
CMD ["--help"]
