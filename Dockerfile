# hybridseg on the CPU, from the wheel that `uv build` leaves in dist:
#   uv build --wheel && docker build -t hybridseg .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" hybridseg extract scene.tif map.gpkg --theme buildings
FROM python:3.12-slim AS build
# PIP_COMPILE=0: no bytecode, 300 MB less and 3 s more a start; PIP_NO_COMPILE=1 means the opposite to pip
ENV PIP_NO_CACHE_DIR=1 PIP_COMPILE=0 SAM2_BUILD_CUDA=0
RUN python -m venv /opt/hybridseg
ENV PATH=/opt/hybridseg/bin:$PATH
# torch first, without CUDA; sam2, which has no wheel, is then built with it and not with a second one
RUN pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu && pip install setuptools wheel
COPY dist/*.whl /tmp/
RUN pip install --no-build-isolation /tmp/*.whl \
 && rm -rf /opt/hybridseg/lib/python3.12/site-packages/torch/include

FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libexpat1 libgomp1 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home user
COPY --from=build /opt/hybridseg /opt/hybridseg
ENV PATH=/opt/hybridseg/bin:$PATH HYBRIDSEG_CACHE=/tmp/hybridseg
USER user
WORKDIR /data
ENTRYPOINT ["hybridseg"]
