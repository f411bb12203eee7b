#!/usr/bin/env python3
"""Does the fake platform answer as Azure does? Prints one `N passed, N failed` line."""

import io
import json
import os
import socket
import sys
import tempfile
import time

import fake_azure as fake
import harness

WIRE = {"x-ms-version": "2012-11-30", "x-ms-agent-name": "preroot"}
JSON = {"x-ms-guest-agent-name": "preroot v0.1", "Content-Type": "application/json"}
XML = {**WIRE, "Content-Type": "text/xml; charset=utf-8"}
INSTANCE = "/metadata/instance?api-version=2021-08-01&extended=true"
READY = '{"state":"Ready"}'


class World:
    """A platform on two free ports of the loopback."""

    def __init__(self, script=None, words=()):
        self.log = io.StringIO()
        self.ready = tempfile.mktemp()
        self.platform = fake.Platform(fake.instance_document(fake.arguments(list(words))),
                                      fake.Script(script or {}), self.log, self.ready)
        self.ports = {name: fake.listen("127.0.0.1:0", self.platform, name).getsockname()[1]
                      for name in ("imds", "wireserver")}

    def raw(self, service, data, timeout=5):
        """Everything the service sends until it closes."""
        with socket.create_connection(("127.0.0.1", self.ports[service]), timeout) as connection:
            connection.sendall(data)
            pieces = []
            while piece := connection.recv(65536):
                pieces.append(piece)
            return b"".join(pieces)

    def ask(self, service, method, target, headers=(), body=b""):
        """Status and body of one exchange."""
        body = body if isinstance(body, bytes) else body.encode()
        head = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close",
                *(f"{k}: {v}" for k, v in dict(headers).items())]
        if method == "POST":
            head.append(f"Content-Length: {len(body)}")
        reply = self.raw(service, "\r\n".join(head + ["", ""]).encode() + body)
        head, _, rest = reply.partition(b"\r\n\r\n")
        return int(head.split()[1]), rest

    def instance(self, headers=(("Metadata", "true"),), target=INSTANCE):
        return self.ask("imds", "GET", target, headers)

    def health(self, body, headers=None):
        return self.ask("wireserver", "POST", "/provisioning/health", headers or JSON, body)

    def health_xml(self, body):
        return self.ask("wireserver", "POST", "/machine?comp=health", XML, body)

    def records(self):
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def ready_count(self):
        if not os.path.exists(self.ready):
            return 0
        with open(self.ready, encoding="utf-8") as file:
            return len(file.readlines())


def xml_health(platform, inner="<State>Ready</State>", **other):
    ids = {"incarnation": platform.incarnation, "container": platform.container_id,
           "instance": platform.instance_id, **other}
    return ('<?xml version="1.0" encoding="utf-8"?><Health><GoalStateIncarnation>{incarnation}</GoalStateIncarnation>'
            "<Container><ContainerId>{container}</ContainerId><RoleInstanceList><Role><InstanceId>{instance}"
            "</InstanceId><Health>").format(**ids) + inner + "</Health></Role></RoleInstanceList></Container></Health>"


def failed(description):
    return json.dumps({"state": "NotReady",
                       "details": {"subStatus": "ProvisioningFailed", "description": description}})


def test_instance_document_has_the_facts():
    world = World(words=["--user", "ops", "--hostname", "vm7", "--key", "ssh-ed25519 AAAA x", "--big-tags", "50"])
    status, body = world.instance()
    document = json.loads(body)
    assert status == 200 and len(body) > 70_000
    assert document["compute"]["osProfile"]["adminUsername"] == "ops"
    assert document["compute"]["publicKeys"][0]["keyData"] == "ssh-ed25519 AAAA x\n"
    assert document["extended"]["compute"] == {"hasCustomData": False, "ppsType": "None"}


def test_imds_refuses_what_the_service_refuses():
    world = World()
    assert world.instance(headers={})[0] == 400
    assert world.instance(headers={"Metadata": "true", "X-Forwarded-For": "1.2.3.4"})[0] == 400
    assert world.instance(target="/metadata/instance?api-version=2999-01-01")[0] == 400
    assert world.instance(target="/metadata/instance")[0] == 400
    assert world.instance(target="/other")[0] == 404
    assert world.instance(target="/metadata/instance/compute/nothing?api-version=2021-08-01")[0] == 404


def test_without_extended_there_is_no_extended_part_and_leaves_are_text():
    world = World()
    assert "extended" not in json.loads(world.instance(target="/metadata/instance?api-version=2021-08-01")[1])
    leaf = "/metadata/instance/compute/osProfile/adminUsername?api-version=2021-02-01&format=text"
    assert world.instance(target=leaf) == (200, b"azureuser")


def test_further_interfaces_are_in_the_document():
    world = World(words=["--nic", "00:0d:3a:00:00:02=10.0.1.4,10.0.1.5,fd00::4", "--nic", "00:0d:3a:00:00:03"])
    first, second, third = json.loads(world.instance()[1])["network"]["interface"]
    assert (first["macAddress"], second["macAddress"]) == ("000D3A123456", "000D3A000002")
    assert [len(second[family]["ipAddress"]) for family in ("ipv4", "ipv6")] == [2, 1]
    assert second["ipv4"]["subnet"] == [{"address": "10.0.1.0", "prefix": "24"}] and third["ipv4"]["ipAddress"] == []


def test_a_sixth_request_in_a_second_is_too_many():
    world = World()
    world.platform.rate_limit = 5
    assert [world.instance()[0] for _ in range(6)] == [200] * 5 + [429]
    time.sleep(1.1)
    assert world.instance()[0] == 200


def test_specialised_disk_has_no_os_profile():
    world = World(words=["--no-os-profile"])
    assert "osProfile" not in json.loads(world.instance()[1])["compute"]


def test_json_ready_is_accepted_logged_and_marked():
    world = World()
    assert world.health(READY)[0] == 200
    record = [r for r in world.records() if r["event"] == "request"][0]
    assert (record["endpoint"], record["verdict"], record["state"]) == ("health-json", "ok", "Ready")
    assert world.ready_count() == 1


def test_json_health_is_judged():
    world = World()
    assert world.health(failed("result=error|reason=x"))[0] == 200
    assert world.health(failed("x" * 4097))[0] == 500
    for body in ("", "{", "[]", '{"state":"Fine"}', '{"state":"NotReady"}', failed(""),
                 '{"state":"Ready","details":{}}', '{"state":"Ready","x":1}'):
        assert world.health(body)[0] == 400, body
    assert world.health(READY, {"Content-Type": "application/json"})[0] == 400
    assert world.health(READY, {**JSON, "Content-Type": "text/plain"})[0] == 400
    assert world.ready_count() == 0


def test_xml_health_is_judged():
    world = World()
    good = xml_health(world.platform)
    assert world.health_xml(good)[0] == 200 and world.ready_count() == 1
    details = "<State>NotReady</State><Details><SubStatus>ProvisioningFailed</SubStatus><Description>{}</Description></Details>"
    assert world.health_xml(xml_health(world.platform, details.format("a &amp; b")))[0] == 200
    assert world.health_xml(xml_health(world.platform, details.format("x" * 4097)))[0] == 500
    assert world.health_xml(xml_health(world.platform, details.format("a & b")))[0] == 400
    assert world.health_xml(xml_health(world.platform, container="x"))[0] == 400
    assert world.health_xml(xml_health(world.platform, instance="x"))[0] == 400
    assert world.health_xml(xml_health(world.platform, incarnation=7))[0] == 410
    assert world.ask("wireserver", "POST", "/machine/?comp=health", {"Content-Type": "text/xml"}, good)[0] == 400


def test_goal_state_needs_only_the_version_header():
    world = World()
    for path in ("/machine/?comp=goalstate", "/machine?comp=goalstate"):
        status, body = world.ask("wireserver", "GET", path, {"x-ms-version": "2012-11-30"})
        assert status == 200 and world.platform.container_id.encode() in body
    assert world.ask("wireserver", "GET", "/machine?comp=goalstate")[0] == 400
    assert b"2012-11-30" in world.ask("wireserver", "GET", "/?comp=versions")[1]


def test_a_script_is_followed_and_its_last_answer_repeats():
    world = World({"imds": ["two-bad-then-good"], "health-json": "refuse-json-405",
                   "goalstate": [{"shape": ["bom", "crlf", "entities"]}, {"leave_out": "ContainerId"}]})
    assert [world.instance()[0] for _ in range(4)] == [500, 500, 200, 200]
    assert [world.health(READY)[0] for _ in range(2)] == [405, 405] and world.ready_count() == 0
    shaped = world.ask("wireserver", "GET", "/machine?comp=goalstate", WIRE)[1]
    assert shaped.startswith(b"\xef\xbb\xbf<?xml") and b"\r\n" in shaped and b"&#46;" in shaped
    assert b"ContainerId" not in world.ask("wireserver", "GET", "/machine?comp=goalstate", WIRE)[1]


def test_the_goal_state_moves_on():
    world = World({"health-xml": [{"incarnation": 2}, "good"]})
    old = xml_health(world.platform)
    assert world.health_xml(old)[0] == 410
    assert b"<Incarnation>2<" in world.ask("wireserver", "GET", "/machine?comp=goalstate", WIRE)[1]
    assert world.health_xml(xml_health(world.platform))[0] == 200


def test_truncated_chunked_delayed():
    world = World({"imds": ["truncated", {"chunked": True}, {"delay_ms": 300}]})
    cut = world.instance()[1]
    try:
        json.loads(cut)
        raise AssertionError("the cut document is whole")
    except ValueError:
        pass
    assert world.instance()[1].endswith(b"\r\n0\r\n\r\n")
    before = time.monotonic()
    assert world.instance()[0] == 200 and time.monotonic() - before >= 0.3


def test_reset_and_never():
    world = World({"health-json": ["reset", "never"]})
    try:
        world.health(READY)
        raise AssertionError("no reset")
    except ConnectionResetError:
        pass
    try:
        world.raw("wireserver", b"POST /provisioning/health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 0.3)
        raise AssertionError("it answered")
    except TimeoutError:
        pass
    assert [r["answer"] for r in world.records() if r["event"] == "request"] == ["reset", "never"]
    assert world.ready_count() == 0


def test_bad_http_is_refused_and_logged():
    world = World()
    assert b" 400 " in world.raw("wireserver", b"GET / HTTP/1.1\nHost: x\n\n")
    assert b" 400 " in world.raw("imds", b"GET " + INSTANCE.encode() + b" HTTP/1.1\r\nMetadata: true\r\n\r\n")
    with socket.create_connection(("127.0.0.1", world.ports["imds"])):
        pass
    time.sleep(0.2)
    assert any(r["event"] == "connection" for r in world.records())


def test_a_connection_is_kept_unless_closing_is_asked_for():
    world = World()
    request = "GET {} HTTP/1.1\r\nHost: x\r\nMetadata: true\r\n{}\r\n"
    both = request.format(INSTANCE, "") + request.format(INSTANCE, "Connection: close\r\n")
    assert world.raw("imds", both.encode()).count(b"HTTP/1.1 200 OK") == 2


def test_a_script_with_a_typing_error_is_refused():
    for table in ({"imsd": []}, {"imds": ["goood"]}, {"imds": [{"stauts": 1}]}):
        try:
            fake.Script(table)
            raise AssertionError(table)
        except SystemExit:
            pass


def main():
    return harness.run(globals())


if __name__ == "__main__":
    sys.exit(main())
