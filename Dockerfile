# srfast for CPUs: docker build -t srfast . && docker run --rm -v "$PWD:/data" srfast upscale in.mp4 out.mp4
# PyTorch's build for CPUs is a fifth of the size: --build-arg TORCH="torch --index-url ADDRESS", as pytorch.org says it.
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN SRFAST_BUILD_CUDA=0 pip wheel --no-cache-dir --no-deps -w /wheels /source

FROM python:3.12-slim
ARG TORCH=torch
# What OpenCV's wheel loads of the system.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir ${TORCH}
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels pip install --no-cache-dir /wheels/*.whl && srfast info
RUN useradd --create-home srfast
USER srfast
WORKDIR /data
ENTRYPOINT ["srfast"]
