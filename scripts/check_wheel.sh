#!/bin/sh
# Install the wheel of dist/ into a clean environment in which no compiler can be found, and use it.
set -eu
wheel=$(ls "$PWD"/dist/qnep-*.whl)
folder=$(mktemp -d)
path=$PATH
trap 'PATH=$path; rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
cp "$(dirname "$0")/smoke_test.py" "$folder"
cd "$folder"
PATH=$folder/venv/bin
python -m pip --disable-pip-version-check --quiet install --only-binary :all: "$wheel"
python smoke_test.py
qnep doctor
