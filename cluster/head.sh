#!/usr/bin/env bash
# Set up the head, after node.sh: MLflow's server, its database, and where its artifacts go.
#
#   head.sh ARTIFACTS    a bucket, s3://NAME/FOLDER or gs://NAME/FOLDER; or a folder
#
# It may be run again: the database stays as it is.
set -euo pipefail
artifacts=$1

sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq install -y postgresql
as_postgres() { (cd / && sudo -u postgres "$@"); }
# The server reaches the database by its socket, as this user: there is no password to keep.
as_postgres psql -tAc "SELECT 1 FROM pg_roles WHERE rolname = '$USER'" | grep -q 1 ||
    as_postgres createuser "$USER"
as_postgres psql -tAc "SELECT 1 FROM pg_database WHERE datname = 'mlflow'" | grep -q 1 ||
    as_postgres createdb --owner "$USER" mlflow

# Nodes send artifacts through the server, so that they need no right to the bucket. It listens on
# every interface, for nodes: no port but SSH's may be open to the outside.
sudo tee /etc/systemd/system/mlflow.service > /dev/null <<UNIT
[Unit]
Description=MLflow tracking server
After=postgresql.service network-online.target
Requires=postgresql.service

[Service]
User=$USER
WorkingDirectory=$HOME
ExecStart=$HOME/venv/bin/mlflow server --host 0.0.0.0 --port 5000 --workers 4 --backend-store-uri postgresql+psycopg2:///mlflow --serve-artifacts --artifacts-destination $artifacts
Restart=always

[Install]
WantedBy=multi-user.target
UNIT
sudo systemctl daemon-reload
sudo systemctl enable --quiet mlflow
sudo systemctl restart mlflow
