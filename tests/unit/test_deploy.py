"""The files of deploy/: valid by their schemas, and saying of the service what is so."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from server.cli.loading import Unloaded
from server.cli.main import cli
from server.config import Settings
from server.rpc.edge import SERVICE

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
KUBERNETES: Final = DEPLOY / "kubernetes"
BIN: Final = Path(sys.executable).parent
VERSIONS: Final = ("1.30.0", "1.37.0")
"""The oldest and the newest Kubernetes that the manifests are checked against."""
TRANSPORT: Final = {f"WALLET_{name}_PLAINTEXT" for name in ("GRPC", "METRICS", "SIDECAR")}
"""Where plaintext is spoken, for releases that ask to be told; others take no notice of them."""
VARIABLES: Final = TRANSPORT | {f"WALLET_{name.upper()}" for name in Settings.model_fields}

Document = dict[str, Any]


def documents() -> Iterator[tuple[str, Document]]:
    """Go through the manifests."""
    for file in sorted(KUBERNETES.glob("*.yaml")):
        if file.name != "kustomization.yaml":
            for document in yaml.safe_load_all(file.read_text()):
                yield f"{file.stem}-{document['kind']}", document


def pods() -> Iterator[tuple[str, Document]]:
    """Go through the pods that the manifests start, with what each is called by its labels."""
    for _, document in documents():
        spec = document.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template:
            yield template["metadata"]["labels"]["app.kubernetes.io/component"], template["spec"]


def compose() -> Document:
    """Return the compose file."""
    content: Document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return content


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "document"), [*documents()], ids=lambda value: str(value)[:40])
def test_each_manifest_is_what_kubernetes_takes(
    name: str, document: Document, version: str
) -> None:
    """Every field has the name and type that the API server's own schema asks for."""
    assert name
    kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_manifest_would_be_found() -> None:
    """A field that Kubernetes does not know is refused, so that the test above can fail."""
    (document,) = [one for _, one in documents() if one["kind"] == "ConfigMap"]

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**document, "dta": {}}, VERSIONS[-1], strict=True)


def test_the_kustomization_has_every_manifest() -> None:
    """No file is left out, none is missing, and the image has the version of this release."""
    content = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())

    files = {file.name for file in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert sorted(content["resources"]) == sorted(files)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert content["images"] == [{"name": "wallet-payment", "newTag": project["version"]}]


def test_selectors_ports_and_references_fit_together() -> None:
    """Whatever one manifest names of another is there."""
    by_component = dict(pods())
    ports = {
        name: {port["name"] for one in pod["containers"] for port in one.get("ports", ())}
        for name, pod in by_component.items()
    }
    services: dict[str, Document] = {}
    for _, document in documents():
        spec = document.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        labels = selector.get("matchLabels", selector)
        component = labels.get("app.kubernetes.io/component")
        assert component is None or component in by_component
        if document["kind"] == "Service":
            services[document["metadata"]["name"]] = document
            assert {port["targetPort"] for port in spec["ports"]} <= ports[component]
    (settings,) = [one["data"] for _, one in documents() if one["kind"] == "ConfigMap"]
    host, _, port = settings["WALLET_SERVER_TARGET"].partition(":")
    assert int(port) in {one["port"] for one in services[host]["spec"]["ports"]}
    (ingress,) = [one["spec"] for _, one in documents() if one["kind"] == "Ingress"]
    (path,) = ingress["rules"][0]["http"]["paths"]
    backend = path["backend"]["service"]
    assert backend["port"]["name"] in {
        one["name"] for one in services[backend["name"]]["spec"]["ports"]
    }


@pytest.mark.parametrize(("component", "pod"), [*pods()], ids=lambda value: str(value)[:10])
def test_no_pod_may_do_more_than_it_needs(component: str, pod: Document) -> None:
    """Each runs as nobody, on a read-only root, without capabilities and without a token."""
    assert component
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_the_sidecar_never_gets_the_servers_secrets() -> None:
    """What faces the internet holds no credentials of a gateway."""
    by_component = dict(pods())

    def secrets(component: str) -> set[str]:
        (container,) = by_component[component]["containers"]
        return {one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one}

    assert secrets("sidecar") == {"wallet-payment-sidecar"}
    assert secrets("server") == {"wallet-payment-server"}
    assert [one for _, one in documents() if one["kind"] == "Secret"] == []


def test_a_server_is_ready_by_grpc_health_and_has_time_to_stop() -> None:
    """The probe asks for the contract's own service; stopping outlasts the server's grace."""
    pod = dict(pods())["server"]
    (container,) = pod["containers"]
    (settings,) = [one["data"] for _, one in documents() if one["kind"] == "ConfigMap"]

    assert container["readinessProbe"]["grpc"]["service"] == SERVICE.full_name
    grace = int(settings["WALLET_SHUTDOWN_GRACE_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] >= grace + 20


def test_every_pod_runs_a_command_that_there_is() -> None:
    """What the manifests and the compose file start takes its options."""
    started = [container["args"] for _, pod in pods() for container in pod["containers"]]
    started += [compose()["services"][name]["command"] for name in ("server", "sidecar")]

    assert len(started) >= 6
    for words in started:
        command: click.Command = cli
        rest = list(words)
        while isinstance(command, click.Group):
            inner = command.commands[rest.pop(0)]
            command = inner.load() if isinstance(inner, Unloaded) else inner
        command.make_context("wallet-payment", rest)


def test_every_pod_may_reach_what_it_needs_and_no_more() -> None:
    """Each has a network policy of its own; MongoDB is reached by all but the sidecar."""
    policies = {
        one["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]: one["spec"]
        for _, one in documents()
        if one["kind"] == "NetworkPolicy" and one["spec"]["podSelector"]
    }
    to_mongodb = {
        component
        for component, spec in policies.items()
        if {"port": 27017} in [port for rule in spec["egress"] for port in rule["ports"]]
    }

    assert policies.keys() == dict(pods()).keys()
    assert to_mongodb == policies.keys() - {"sidecar"}


def test_every_setting_that_is_named_is_one() -> None:
    """No file sets a variable that the service does not read."""
    for file in (*KUBERNETES.glob("*.yaml"), *DEPLOY.glob("*.*"), DEPLOY / "Dockerfile"):
        if file.suffix != ".txt":
            named = set(re.findall(r"\bWALLET_[A-Z_]+[A-Z]\b", file.read_text()))
            assert named <= VARIABLES, file


def test_the_compose_file_is_what_compose_takes() -> None:
    """It fits the Compose Specification."""
    subprocess.run(
        [
            *(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"),
            str(DEPLOY / "compose.yaml"),
        ],
        check=True,
    )


def test_the_compose_file_mounts_what_is_there_and_opens_nothing() -> None:
    """Bind mounts exist and are read-only, ports are on loopback, MongoDB is the server's alone."""
    for name, service in compose()["services"].items():
        for volume in service.get("volumes", ()):
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                assert (DEPLOY / source).exists()
                assert rest.endswith(":ro")
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        near_the_database = name.startswith(("mongodb", "replica-set")) or name == "server"
        assert ("database" in service["networks"]) == near_the_database
        assert not (name.startswith("mongodb") and "ports" in service)
    assert compose()["networks"]["database"] == {"internal": True}
    ours = {name: compose()["services"][name] for name in ("server", "sidecar")}
    assert all(one["read_only"] and one["cap_drop"] == ["ALL"] for one in ours.values())
    scraped = yaml.safe_load((DEPLOY / "monitoring/prometheus.yaml").read_text())
    (target,) = scraped["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.partition(":")[0] in ours


def test_prometheus_finds_the_servers_and_nothing_else_in_kubernetes() -> None:
    """It keeps the pods with the manifests' own labels and ports, under the name of the alerts."""
    content = yaml.safe_load((DEPLOY / "monitoring/prometheus-kubernetes.yaml").read_text())
    (job,) = content["scrape_configs"]
    (discovered,) = job["kubernetes_sd_configs"]
    (kept,) = [rule for rule in job["relabel_configs"] if rule.get("action") == "keep"]
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())

    assert job["job_name"] == "wallet-payment"
    assert discovered["namespaces"]["names"] == [kustomization["namespace"]]
    found = {
        f"{component};{port['name']}"
        for component, pod in pods()
        for container in pod["containers"]
        for port in container.get("ports", ())
    }
    assert {one for one in found if re.fullmatch(kept["regex"], one)} == {"server;metrics"}


def test_the_dockerfile_has_no_known_mistake() -> None:
    """The linter of Dockerfiles finds nothing."""
    hadolint = shutil.which("hadolint", path=str(BIN))
    if hadolint is None:
        pytest.skip("hadolint is packaged for x86-64 Linux alone")

    subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], check=True)


def locked(file: str) -> dict[str, str]:
    """Return what a lock names: version by package; each line has its hashes."""
    text = (DEPLOY / file).read_text()
    assert "://" not in text, "no address of a registry"
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        requirement, _, hashes = entry.partition(" \\\n")
        name, version = re.match(r"([\w.-]+)(?:\[\w+\])?==([^ ;]+)", requirement).groups()  # type: ignore[union-attr] # each line is one
        assert "--hash=sha256:" in hashes, name
        found[canonicalize_name(name)] = version
    return found


def test_the_locks_have_all_that_is_needed_in_versions_that_fit() -> None:
    """What the image installs is what pyproject.toml asks for."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for file, wanted in (
        ("requirements.txt", content["project"]["dependencies"]),
        ("requirements-build.txt", content["build-system"]["requires"]),
    ):
        found = locked(file)
        for requirement in map(Requirement, wanted):
            version = found[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True), requirement
