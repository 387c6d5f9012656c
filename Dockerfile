# The service in a container: docs/serve.md says how to build and run it.
FROM python:3.11-slim AS build
# Address of PyTorch's wheels for the CPU or for another CUDA (pytorch.org lists them); without it those of the default
# package index, which bring CUDA on Linux.
ARG TORCH_INDEX=""
WORKDIR /build
COPY pyproject.toml hatch_build.py README.md LICENSE constraints.txt ./
COPY src src
RUN python -m venv /opt/goca \
    && /opt/goca/bin/pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt '.[serve,lora]'

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home goca && mkdir -p /models /home/goca/.cache && chown 10001 /models /home/goca/.cache
COPY --from=build /opt/goca /opt/goca
ENV PATH=/opt/goca/bin:$PATH PYTHONUNBUFFERED=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /home/goca
VOLUME ["/models", "/home/goca/.cache"]
EXPOSE 8642
# 503 while the models are loaded, which takes minutes where they are downloaded first.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30m \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8642/health', timeout=4)"]
ENTRYPOINT ["goca"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8642"]
