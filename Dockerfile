# mmreuse on CPUs and GPUs, from the lock: docker build -t mmreuse . && docker run --rm mmreuse check timm:resnet18
FROM python:3.11-slim

# OpenCV needs both.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /mmreuse
COPY . .
RUN PIP_NO_CACHE_DIR=1 tools/create_env.sh /opt/mmreuse python3.11
ENV PATH=/opt/mmreuse/bin:$PATH

WORKDIR /work
ENTRYPOINT ["mmreuse"]
CMD ["--help"]
