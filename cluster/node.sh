#!/usr/bin/env bash
# Set up one machine: the shared folder, and a Python with the tested version of every dependency.
#
#   node.sh SHARE        SHARE is an NFS export, HOST:/PATH; it is mounted as /shared
#
# Beside this script lie constraints.txt and pyproject.toml. It may be run again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
share=$1

# A machine that has just started updates itself first: wait for it.
apt() { sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@"; }
apt update
apt install -y nfs-common python3-venv

# A hard mount waits for a server that is away, and loses nothing.
sudo mkdir -p /shared
mountpoint -q /shared || sudo mount -t nfs4 -o nfsvers=4.1,hard,noresvport "$share" /shared
[ -w /shared ] || sudo chown "$USER" /shared

# The code itself travels with each job.
[ -x ~/uv/bin/uv ] || { python3 -m venv ~/uv && ~/uv/bin/pip install --quiet uv; }
~/uv/bin/uv venv --quiet --allow-existing --python 3.11 ~/venv
~/uv/bin/uv pip install --quiet --python ~/venv/bin/python \
    --constraint "$here/constraints.txt" --requirement "$here/pyproject.toml" --extra cluster
line='export PATH=$HOME/venv/bin:$PATH'
grep -qxF "$line" ~/.bashrc || echo "$line" >> ~/.bashrc
