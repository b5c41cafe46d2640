# docker build -t diffusion .      then      docker run --rm -p 7860:7860 diffusion
#
# It takes PyTorch's wheels for the CPU, as those with CUDA make the image several times as large; --build-arg
# PIP_EXTRA_INDEX_URL= takes the usual ones.
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
WORKDIR /app
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.txt -c constraints.txt

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
