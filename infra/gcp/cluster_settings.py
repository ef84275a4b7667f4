"""The settings of a cluster as plain values: those of both modes, and those of each."""

from datetime import datetime
from typing import Any

from infra.gcp.network import PODS, SERVICES
from stackfile.gke import Gke

Settings = dict[str, Any]
# IAM alone decides the account's permissions; narrower scopes add failures that IAM does not explain.
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_CHANNELS = {
    "rapid": "RAPID",
    "regular": "REGULAR",
    "stable": "STABLE",
    "extended": "EXTENDED",
    "none": "UNSPECIFIED",
}


def shared(gke: Gke) -> Settings:
    """Return the settings that Standard and Autopilot clusters share."""
    return {
        "location": gke.location,
        "networking_mode": "VPC_NATIVE",
        "ip_allocation_policy": {
            "cluster_secondary_range_name": PODS,
            "services_secondary_range_name": SERVICES,
        },
        "release_channel": {"channel": _CHANNELS[gke.release_channel]},
        "min_master_version": gke.version,
        "maintenance_policy": {
            "recurring_window": {
                "start_time": _rfc3339(gke.maintenance.start),
                "end_time": _rfc3339(gke.maintenance.end),
                "recurrence": gke.maintenance.recurrence,
            }
        },
        "deletion_protection": gke.deletion_protection,
        "gateway_api_config": {"channel": "CHANNEL_STANDARD"},
        "security_posture_config": {"mode": "BASIC", "vulnerability_mode": "VULNERABILITY_DISABLED"},
        "master_auth": {"client_certificate_config": {"issue_client_certificate": False}},
        **_endpoint(gke),
    }


def standard(gke: Gke, node_account: Any) -> Settings:  # noqa: ANN401 -- str or Output, as Pulumi's Input is
    """Return the settings of a Standard cluster only; Autopilot enables all of them by itself."""
    return {
        "node_locations": list(gke.zones[1:] if gke.control_plane == "zonal" else gke.zones),
        "datapath_provider": "ADVANCED_DATAPATH",
        "enable_intranode_visibility": True,
        "enable_shielded_nodes": True,
        "enable_legacy_abac": False,
        # The default pool exists for minutes, but needs an account, and the project's default may be deleted.
        "remove_default_node_pool": True,
        "initial_node_count": 1,
        "node_config": {
            "service_account": node_account,
            "oauth_scopes": [SCOPE],
            "shielded_instance_config": {"enable_secure_boot": True, "enable_integrity_monitoring": True},
            "workload_metadata_config": {"mode": "GKE_METADATA"},
        },
        "node_pool_defaults": {"node_config_defaults": {"gcfs_config": {"enabled": True}}},
        "addons_config": {
            "dns_cache_config": {"enabled": True},
            "gce_persistent_disk_csi_driver_config": {"enabled": True},
            "gcp_filestore_csi_driver_config": {"enabled": True},
            "gcs_fuse_csi_driver_config": {"enabled": True},
        },
        "logging_config": {"enable_components": ["SYSTEM_COMPONENTS", "WORKLOADS"]},
        "monitoring_config": {
            "enable_components": ["SYSTEM_COMPONENTS"],
            "managed_prometheus": {"enabled": True},
        },
    }


def autopilot(node_account: Any) -> Settings:  # noqa: ANN401 -- str or Output, as Pulumi's Input is
    """Return the settings of an Autopilot cluster only: the service account of its nodes."""
    defaults = {"service_account": node_account, "oauth_scopes": [SCOPE]}
    return {"enable_autopilot": True, "cluster_autoscaling": {"auto_provisioning_defaults": defaults}}


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _endpoint(gke: Gke) -> Settings:
    """Return the access to the API server: by name and IAM, from named networks, or from inside only."""
    by_name = gke.endpoint == "dns"
    settings: Settings = {
        "private_cluster_config": {
            "enable_private_nodes": True,
            # Access by name has no public address, which GKE reports as a private endpoint.
            "enable_private_endpoint": gke.endpoint != "public",
            "master_ipv4_cidr_block": str(gke.network.control_plane),
        },
        "control_plane_endpoints_config": {
            "dns_endpoint_config": {"allow_external_traffic": by_name},
            "ip_endpoints_config": {"enabled": not by_name},
        },
    }
    if not by_name:
        # Declared even when empty: without it, every address that reaches the endpoint may connect.
        settings["master_authorized_networks_config"] = {
            "cidr_blocks": [
                {"cidr_block": str(network), "display_name": name}
                for name, network in gke.authorized_networks.items()
            ],
            "gcp_public_cidrs_access_enabled": False,
        }
    return settings
