"""Ray with Ray Serve, which runs the scoring API behind its HAProxy."""

import shutil
from typing import Final

from adnomaly.home import Home
from adnomaly.ports import DEFAULT_PORTS
from adnomaly.settings import ROOT, Settings
from stack.servers.base import Port, Server, Variables, answers

DASHBOARD: Final = Port("ray", DEFAULT_PORTS["ray"], "Ray dashboard")
GCS: Final = Port("ray-gcs", 6380)
SERVING: Final = Port("serving", DEFAULT_PORTS["serving"], "Scoring API", reserved=False)
NODE_MANAGER: Final = Port("ray-node", 6381, reserved=False)
OBJECT_MANAGER: Final = Port("ray-objects", 6382, reserved=False)
AGENT: Final = Port("ray-agent", 6383, reserved=False)
AGENT_GRPC: Final = Port("ray-agent-grpc", 6384, reserved=False)
RUNTIME_ENV: Final = Port("ray-runtime-env", 6385, reserved=False)
AUTOSCALER_METRICS: Final = Port("ray-autoscaler-metrics", 6386, reserved=False)
DASHBOARD_METRICS: Final = Port("ray-dashboard-metrics", 6387, reserved=False)
METRICS: Final = Port("ray-metrics", 6388, reserved=False)
FALLBACK: Final = Port("serving-fallback", 8510, reserved=False)
FALLBACK_GRPC: Final = Port("serving-fallback-grpc", 8511, reserved=False)
HAPROXY_METRICS: Final = Port("serving-metrics", 9201, reserved=False)
HAPROXY_STATS: Final = Port("serving-stats", 8404, reserved=False)

SERVE: Final = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # HAProxy retries on the other replica when one is killed. Every route is idempotent.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response junk-response",
    "RAY_SERVE_HAPROXY_RETRIES": "3",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    # A replica that answers its checks late on a busy machine is not down: with both down, every
    # request fails. A dead one refuses connections, and is marked by that at once.
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_FASTINTER": "1s",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "5",
    # Close the connection of a silent client after 30 s; the default is an hour.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "30",
    # For a replica that hangs: Serve itself gives up after 5 s.
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "10",
    # No request takes longer than 5 s; the default drains a stopping replica for 30 s.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    "RAY_SERVE_STOP_FAILED_ROLLING_UPDATES": "1",
    # The default niceness of workers, HAProxy included, is 15: they starve on a busy machine.
    "RAY_worker_niceness": "0",
}


def _command(settings: Settings) -> list[str]:
    # Above all other ports, and apart for stacks whose offsets differ by 10 or more.
    first_worker = 11002 + 10 * settings.port_offset
    options = {
        "--node-ip-address": "127.0.0.1",
        "--port": GCS.of(settings),
        "--dashboard-host": "127.0.0.1",
        "--dashboard-port": DASHBOARD.of(settings),
        "--metrics-export-port": METRICS.of(settings),
        "--num-cpus": 4,
        "--object-store-memory": 200_000_000,
        "--node-manager-port": NODE_MANAGER.of(settings),
        "--object-manager-port": OBJECT_MANAGER.of(settings),
        "--dashboard-agent-listen-port": AGENT.of(settings),
        "--dashboard-agent-grpc-port": AGENT_GRPC.of(settings),
        "--runtime-env-agent-port": RUNTIME_ENV.of(settings),
        "--min-worker-port": first_worker,
        "--max-worker-port": first_worker + 89,
        "--ray-client-server-port": first_worker + 90,
        "--temp-dir": Home.of(settings).ray,
    }
    flags = [text for name, value in options.items() for text in (name, str(value))]
    return ["ray", "start", "--head", "--block", "--disable-usage-stats", *flags]


def _env(settings: Settings) -> Variables:
    first_ingress = 30000 + settings.port_offset
    haproxy = Home.of(settings).haproxy
    return {
        **SERVE,
        **_token(settings),
        "AUTOSCALER_METRIC_PORT": str(AUTOSCALER_METRICS.of(settings)),
        "DASHBOARD_METRIC_PORT": str(DASHBOARD_METRICS.of(settings)),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first_ingress),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first_ingress + 89),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(first_ingress + 10_000),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(first_ingress + 10_089),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(FALLBACK.of(settings)),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(FALLBACK_GRPC.of(settings)),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(ROOT / "include" / "stack" / "haproxy-wrapper.sh"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "api.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "haproxy-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(HAPROXY_METRICS.of(settings)),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(HAPROXY_STATS.of(settings)),
    }


def _token(settings: Settings) -> Variables:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": settings.ray_auth_token.get_secret_value(),
    }


def _client_env(settings: Settings) -> Variables:
    return _token(settings) | {"RAY_ADDRESS": settings.ray_dashboard_url}


def _prepare(settings: Settings) -> None:
    """Create the folders; remove all but the last two sessions."""
    home = Home.of(settings)
    for folder in (home.ray, home.haproxy):
        folder.mkdir(parents=True, exist_ok=True)
    for session in sorted(home.ray.glob("session_2*"))[:-2]:
        shutil.rmtree(session, ignore_errors=True)


SERVERS = (
    Server(
        name="ray",
        command=_command,
        ready=answers(DASHBOARD, "/api/serve/applications/", token=True),
        ports=(
            DASHBOARD,
            GCS,
            SERVING,
            NODE_MANAGER,
            OBJECT_MANAGER,
            AGENT,
            AGENT_GRPC,
            RUNTIME_ENV,
            AUTOSCALER_METRICS,
            DASHBOARD_METRICS,
            METRICS,
            FALLBACK,
            FALLBACK_GRPC,
            HAPROXY_METRICS,
            HAPROXY_STATS,
        ),
        env=_env,
        prepare=_prepare,
        stop_s=8,  # Ray waits much longer than its processes need; killing them loses nothing
        client_env=_client_env,
    ),
)
