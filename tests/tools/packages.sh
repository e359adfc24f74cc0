# shellcheck shell=sh disable=SC2034
# The Debian packages that mgr needs, in one place. To be sourced; defines install_packages.

packages_build="build-essential cmake ninja-build pkg-config libuv1-dev libyaml-cpp-dev
  nlohmann-json3-dev libcli11-dev libfmt-dev libspdlog-dev python3-dev"
packages_example="python3 python3-fastapi curl"
packages_test="libgtest-dev python3-pytest python3-flask python3-django python3-starlette python3-itsdangerous
  python3-quart python3-falcon python3-jsonschema python3-aiohttp
  gunicorn python3-uvicorn
  ccache procps iproute2 nftables nginx prometheus debootstrap systemd buildah podman runc
  python3-uvloop python3-anyio"
packages_bench="nginx gunicorn python3-uvicorn python3-uvloop python3-httptools python3-hypercorn daphne
  python3-flask python3-django uwsgi-core uwsgi-plugin-python3 valgrind"
packages_image="python3-venv ccache"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing_packages() {
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
      echo "$package"
  done
}

# llhttp has a package of its own since Debian 13; before, its sources come with node-llhttp.
llhttp_package() {
  if [ -n "$(apt-cache search --names-only '^libllhttp-dev$')" ]; then
    echo libllhttp-dev
  else
    echo node-llhttp
  fi
}

# install_packages KIND…: what is missing of the lists above, and of the build's own.
install_packages() {
  wanted=$packages_build
  for kind in "$@"; do eval "wanted=\"\$wanted \$packages_$kind\""; done
  # shellcheck disable=SC2086
  missing=$(missing_packages $wanted)
  if [ -z "$(missing_packages node-llhttp)" ] || [ -z "$(missing_packages libllhttp-dev)" ]; then
    llhttp=
  else
    llhttp=needed
  fi
  [ -n "$missing$llhttp" ] || return 0
  as_root apt-get update
  [ -z "$llhttp" ] || missing="$missing $(llhttp_package)"
  # shellcheck disable=SC2086
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
}
