#!/bin/sh
# Fetches the libraries that README.md lists, checks their hashes, and puts the files that the page uses here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
grep '| sha512-' "$here/README.md" | while IFS='|' read -r _ name version _ hash _; do
  name=$(echo $name) version=$(echo $version) hash=$(echo $hash)
  file=$(npm pack --silent "$name@$version")
  found="sha512-$(openssl dgst -sha512 -binary "$file" | openssl base64 -A)"
  [ "$found" = "$hash" ] || { echo "$name $version has the hash $found, not $hash" >&2; exit 1; }
  tar xzf "$file"
  mv package "$name"
done
cp maplibre-gl/dist/maplibre-gl.mjs maplibre-gl/dist/maplibre-gl-worker.mjs maplibre-gl/dist/maplibre-gl.css "$here"
cp maplibre-gl/LICENSE.txt "$here/LICENSE-maplibre-gl.txt"
cp terra-draw/dist/terra-draw.umd.js terra-draw-maplibre-gl-adapter/dist/terra-draw-maplibre-gl-adapter.umd.js "$here"
