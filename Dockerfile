# syntax=docker/dockerfile:1
# docker build -t image-analyzer .                                       takes the weights from a volume, or fetches them
# docker build -t image-analyzer --build-arg WEIGHTS=openai/clip-vit-base-patch32 .        bakes them in
# The same image serves one machine and every node of a KubeRay cluster (docs/deploy.md).

FROM python:3.11-slim-bookworm AS build
# An index with CPU wheels of PyTorch saves gigabytes where there is no GPU: --build-arg PIP_EXTRA_INDEX_URL=…
ARG PIP_EXTRA_INDEX_URL
WORKDIR /opt/image-analyzer
RUN python -m venv /opt/venv
COPY pyproject.toml constraints.txt README.md ./
# The packages by themselves: a change in the code does not fetch them again.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > requirements.txt \
    && /opt/venv/bin/pip install --disable-pip-version-check --constraint constraints.txt --requirement requirements.txt
COPY serve_app serve_app
COPY deployments deployments
COPY configs configs
RUN /opt/venv/bin/pip install --disable-pip-version-check --no-deps --editable .
ARG WEIGHTS=""
ENV HF_HOME=/opt/weights
RUN mkdir -p "$HF_HOME" && if [ -n "$WEIGHTS" ]; then /opt/venv/bin/python -c \
    "import sys; from deployments.clip.weights import fetch_weights; fetch_weights(sys.argv[1])" "$WEIGHTS"; fi

FROM python:3.11-slim-bookworm
# wget: for the health check below, and for KubeRay's.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 analyzer
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=analyzer /opt/weights /opt/weights
COPY --from=build /opt/image-analyzer /opt/image-analyzer
WORKDIR /opt/image-analyzer
ENV PATH=/opt/venv/bin:$PATH \
    HF_HOME=/opt/weights \
    PYTHONDONTWRITEBYTECODE=1
USER 1000
EXPOSE 8000
# Ready, not merely alive: 503 until pictures are answered, and whenever a part that is required is missing.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["wget", "--quiet", "--output-document=/dev/null", "http://127.0.0.1:8000/api/images/health"]
CMD ["image-analyzer", "serve", "--verbose", "configs/container.yaml"]
