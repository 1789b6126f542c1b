# syntax=docker/dockerfile:1
# docker build -t image-analyzer .                                     PyPI's PyTorch, which carries CUDA: 6.15 GB
# docker build -t image-analyzer --build-arg TORCH_INDEX_URL=… .       another: for CPU alone (2.05 GB), or another CUDA
# docker build -t image-analyzer --build-arg WEIGHTS=openai/clip-vit-base-patch32 .      with CLIP's weights in it
# The same image serves one machine and every node of a KubeRay cluster (docs/deploy.md).

FROM python:3.11-slim-bookworm AS build
WORKDIR /opt/image-analyzer
RUN python -m venv /opt/venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
# The index that PyTorch's installation page names for the build you want. Nothing but torch itself is taken from it.
ARG TORCH_INDEX_URL=""
# The packages by themselves: a change in the code does not fetch them again.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip="/opt/venv/bin/pip install --disable-pip-version-check --constraint constraints.txt" \
    && if [ -n "$TORCH_INDEX_URL" ]; then $pip --no-deps --index-url "$TORCH_INDEX_URL" torch; fi \
    && python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && $pip --requirement requirements.txt
COPY serve_app serve_app
COPY deployments deployments
COPY configs configs
COPY serve_config.yaml ./
# In a container 127.0.0.1 is reached by nobody: who reaches a port is what its engine publishes.
RUN /opt/venv/bin/pip install --disable-pip-version-check --no-deps --editable . \
    && sed --in-place 's/^  host: 127\.0\.0\.1\b/  host: 0.0.0.0/' serve_config.yaml configs/*.yaml
ARG WEIGHTS=""
# Beside the hub's cache, not in it: a volume mounted there hides nothing. A folder of the model's name comes before the hub.
RUN if [ -n "$WEIGHTS" ]; then HF_HOME=/tmp/hub /opt/venv/bin/python -c \
    "import shutil, sys; from deployments.clip.weights import fetch_weights; shutil.copytree(fetch_weights(sys.argv[1]), sys.argv[1])" \
    "$WEIGHTS"; fi

FROM python:3.11-slim-bookworm
# wget: for the health check below, and for the probes of KubeRay.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 analyzer \
    && install --directory --owner=analyzer /opt/weights
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/image-analyzer /opt/image-analyzer
WORKDIR /opt/image-analyzer
ENV PATH=/opt/venv/bin:$PATH \
    HF_HOME=/opt/weights \
    HF_HUB_DISABLE_TELEMETRY=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    PYTHONDONTWRITEBYTECODE=1
USER 1000
# The service, and its metrics.
EXPOSE 8000 9464
# docker-compose.yml says it too: images in OCI's format have no such line.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["wget", "--quiet", "--output-document=/dev/null", "http://127.0.0.1:8000/api/images/ready"]
CMD ["image-analyzer", "serve", "--verbose", "serve_config.yaml"]
