#!/usr/bin/env bash
# report_pages.sh GALLERY markup|browser: tests/report_pages.py, skipped where python3 or, for the browser, Chromium is not installed
# (PQ_CHROMIUM names another one). PQ_SCREENSHOTS=DIR leaves pictures of the page to be looked at.
set -u
command -v python3 >/dev/null || { echo "python3 is not installed"; exit 77; }
chromium=()
if [ "$2" = browser ]; then
  for name in ${PQ_CHROMIUM:-chromium chromium-browser google-chrome}; do
    found=$(command -v "$name") && chromium=("$found") && break
  done
  [ ${#chromium[@]} -gt 0 ] || { echo "Chromium is not installed: the page is not tried in a browser"; exit 77; }
fi
exec python3 "$(dirname "$0")/report_pages.py" "$1" "${chromium[@]}"
