"""How long pages in a browser may take."""

from playwright.sync_api import expect

# For all files, as the process has one: MLflow's pages load megabytes of script, and test machines
# are busy.
expect.set_options(timeout=60_000)
