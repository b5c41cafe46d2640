# docker build -t diffusion .      then      docker run --rm -p 7860:7860 diffusion
#
# PyTorch's usual wheels bring CUDA along. For an image without: --build-arg PIP_EXTRA_INDEX_URL=... with the index of CPU
# wheels that PyTorch's install page names.
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.txt

COPY LICENSE README.md app.py ./
COPY checkpoints/ checkpoints/
COPY ddpm/ ddpm/

RUN useradd --create-home --uid 1000 app
USER app
ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 GRADIO_ANALYTICS_ENABLED=False
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['GRADIO_SERVER_PORT'])"]
CMD ["python", "app.py"]
