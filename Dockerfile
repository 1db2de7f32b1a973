# The toolkit for ONNX, as an ordinary user:
#   docker run --rm -v "$PWD":/work mobileclip export --target onnx -o out
# Python packages are pinned by hash, but for torch's two, which are pinned by version. TORCH_INDEX: the index of PyTorch's
# builds for CPU, as pytorch.org/get-started names it; without it pip takes the builds for NVIDIA's GPUs with NVIDIA's
# libraries, which torch does not start without: several GB more.
#   docker build --build-arg TORCH_INDEX=... -t mobileclip .
# Debian's image is named by its release: put its digest there (`docker buildx imagetools
# inspect debian:12-slim`) for the same bytes every time.
FROM debian:12-slim AS built
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
ARG TORCH_INDEX=
WORKDIR /source
COPY .github/requirements/docker.txt requirements.txt
RUN python3 -m venv /opt/mobileclip \
    && /opt/mobileclip/bin/pip install --no-cache-dir --no-compile \
       ${TORCH_INDEX:+--no-deps --index-url "$TORCH_INDEX"} torch==2.13.0 torchvision==0.28.0 \
    && /opt/mobileclip/bin/pip install --no-cache-dir --no-compile --require-hashes --no-deps -r requirements.txt
COPY . .
RUN /opt/mobileclip/bin/pip install --no-cache-dir --no-compile --no-deps --no-build-isolation .

FROM debian:12-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home mobileclip
COPY --from=built /opt/mobileclip /opt/mobileclip
ENV PATH=/opt/mobileclip/bin:$PATH
USER 10001
WORKDIR /work
ENTRYPOINT ["mobileclip-deploy"]
CMD ["--help"]
