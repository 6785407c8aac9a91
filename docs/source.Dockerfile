# This repository and its example, iii from source. A project of your own has the Dockerfile that `iii create` writes.
# docker build -f docs/source.Dockerfile -t app . && docker run --init --stop-timeout 30 -p 3000:3000 -v app-data:/app/data \
#     --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges app
# The volume takes owner and mode (0700) of /app/data, and iii refuses one that is open to others. One that was made before:
#     docker run --rm --user root -v app-data:/app/data app sh -c 'chown app /app/data && chmod 700 /app/data'
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY . /src
# exactly the versions of constraints.txt, each file by its hash, build tools included
RUN sed -n '/^pip==/,/[^\\]$/p' /src/constraints.txt > /pip.txt && pip install --no-cache-dir -r /pip.txt \
    && pip wheel --no-cache-dir --wheel-dir /wheels --no-require-hashes -c /src/constraints.txt \
       --build-constraint /src/constraints.txt /src

FROM python:3.11-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels iii-engine && rm -rf /wheels \
    && useradd --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app \
    && install -d /app && install -d -m 700 -o app -g app /app/data
WORKDIR /app
COPY iii-config.yaml /app/
COPY steps /app/steps
USER app
# the store: a volume on a disk of this machine, never a network filesystem
VOLUME /app/data
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/health', timeout=2)"]
CMD ["iii", "-c", "iii-config.yaml", "--instances", "2", "--host", "0.0.0.0"]
