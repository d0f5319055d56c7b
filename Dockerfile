# One image for every role; `theta compose run ROLE` says which a container plays.
#
#   docker build -t theta .                                      # torch as the package index has it (CUDA on x86-64)
#   docker build -t theta --build-arg TORCH=cpu --build-arg TORCH_INDEX_URL=URL .
#
# URL: an index with other builds of torch; https://pytorch.org/get-started/locally/ names them. It is asked beside the
# usual one, whose builds of the same version rank lower (2.13.0 < 2.13.0+cpu).
ARG BASE_IMAGE=debian:bookworm-slim
# Needs apt and Python 3.11 to 3.13 as `python3`.

FROM ${BASE_IMAGE} AS packages
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/theta/venv
ENV PATH=/opt/theta/venv/bin:$PATH
WORKDIR /build
COPY requirements.txt constraints.txt ./
# A site's own index: pip reads these by itself, and takes an empty one for none. They stay in this stage, which is not shipped.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ARG TORCH_INDEX_URL
RUN pip install --no-cache-dir --disable-pip-version-check --progress-bar off \
    ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -r requirements.txt
# `cpu` or `cuda`: the build ends here where the index gave the other one.
ARG TORCH
RUN [ -z "$TORCH" ] || python -c "import sys, torch; is_ = 'cuda' if torch.version.cuda else 'cpu'; \
    is_ == '$TORCH' or sys.exit(f'TORCH=$TORCH was asked for, and torch {torch.__version__} is for {is_}: name an index with the other build by TORCH_INDEX_URL')"

FROM ${BASE_IMAGE}
# g++ and Python's headers: torch compiles a model before a long training, which then takes half the time.
# tini: reaps what a killed task leaves, and passes signals on.
# /entrypoint and /opt/airflow: Airflow's Helm chart calls its probes through the one and has its home in the other, as in
# Airflow's own image.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ python3 python3-dev tini \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home --shell /usr/sbin/nologin theta \
    && install -d -o theta -g theta -m 700 /var/lib/theta /opt/airflow \
    && printf '#!/bin/sh\nexec "$@"\n' > /entrypoint && chmod 755 /entrypoint
COPY --from=packages /opt/theta/venv /opt/theta/venv
ENV PATH=/opt/theta/venv/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    THETA_HOME=/var/lib/theta
WORKDIR /opt/theta
# What changes most often comes last, and is small.
COPY . .
# A checkout's own modes may let nobody but its owner read. The environment's are right; touched, it would be here twice.
RUN find . -path ./venv -prune -o -exec chmod a+rX {} + \
    && pip install --no-deps --no-index --no-build-isolation --no-cache-dir --disable-pip-version-check --quiet -e . \
    && python -m compileall -q theta_ml plugins dags
# A label that says which code this is, where the builder knows (`theta --version`); a wrong one ends the build.
ARG CODE
RUN [ -z "$CODE" ] || theta --version | grep -q "code $CODE\$" \
    || { echo "CODE=$CODE was said, but this is: $(theta --version)" >&2; exit 1; }
LABEL org.opencontainers.image.title=theta theta.code=$CODE
USER theta
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["theta", "--help"]
# `theta compose run` looks after its program and touches this file while all is well.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=2 \
    CMD find /tmp/theta-healthy -newermt "-40 seconds" | grep -q .
