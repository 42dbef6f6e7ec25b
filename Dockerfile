# The router, and its tools (mock, replay, …), in an image that needs no root and writes nothing:
#   docker build -t fd-router . && docker run --read-only -p 30000:30000 fd-router
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/fd-router
COPY requirements-image.lock ./
RUN /opt/fd-router/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
        --requirement requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/fd-router/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/fd-router /opt/fd-router
ENV PATH=/opt/fd-router/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /etc/fd-router
# A number: Kubernetes' runAsNonRoot looks at nothing else.
USER 10001:10001
EXPOSE 30000
# /live, and not /ready: a router that drains, or has no instances yet, is to be left alone.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('FD_ROUTER_SERVER_PORT', '30000') + '/live', timeout=2)"]
# No shell in between: the router itself gets SIGTERM, and drains.
ENTRYPOINT ["fd-router"]
CMD ["--port", "30000"]
