# What the pods of launch/gke_run.sh run in: gcloud, and everything of requirements.lock. The code is not in it: each launch
# ships its own commit. Build it at the top of a checkout: docker build --file launch/gke.Dockerfile --tag IMAGE .
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && curl --fail --silent --show-error --location https://sdk.cloud.google.com \
    | bash -s -- --disable-prompts --install-dir=/opt
ENV PATH=/opt/google-cloud-sdk/bin:$PATH CM3LEON_ENVIRONMENT=/environment
COPY requirements.lock /tmp/requirements.lock
RUN python -m venv /environment \
    && /environment/bin/pip install --no-cache-dir --no-deps --requirement /tmp/requirements.lock \
    && /environment/bin/pip install --no-cache-dir --constraint /tmp/requirements.lock \
    "jax[tpu]==$(/environment/bin/python -c 'import importlib.metadata as m; print(m.version("jax"))')"
