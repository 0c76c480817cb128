# The command, the gate and the workers in one image: `docker build -t headgate .`
# Target `headgate` holds the product; target `example` adds what the coding agent's own tests need.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# What compiles the fold; the last image has the machine code only.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY constraints.txt .
RUN pip wheel --wheel-dir /wheels -c constraints.txt pytest
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY protos protos
COPY graphs graphs
COPY streams streams
COPY workers workers
COPY guardrails guardrails
COPY catalog catalog
COPY replay replay
COPY resilience resilience
COPY loadtest loadtest
COPY headgate headgate
RUN python -m venv /compile \
    && /compile/bin/pip install -c constraints.txt -e '.[llm,catalog,compile]' \
    && /compile/bin/python hatch_build.py --compile
RUN pip wheel --wheel-dir /wheels -c constraints.txt '.[llm,catalog]'

FROM ${PYTHON} AS headgate
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-index --find-links /wheels 'headgate[llm,catalog]'
RUN useradd --system --uid 10001 --no-create-home headgate \
    && install -d -o headgate -g headgate /var/lib/headgate /var/lib/headgate/.headgate
USER headgate
WORKDIR /var/lib/headgate
ENTRYPOINT ["headgate"]
CMD ["--help"]

FROM headgate AS example
USER root
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels pip install --no-index --find-links /wheels pytest
COPY examples examples
USER headgate

# The last stage is what a plain `docker build` makes.
FROM headgate
