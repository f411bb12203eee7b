#!/usr/bin/env python3
"""What does Azure's platform answer a VM that is being provisioned?

IMDS (169.254.169.254) and the wireserver (168.63.129.16) in one process, for a network namespace without
uplink. Each endpoint checks what the real service checks and answers as it does, unless a script says
otherwise. Every request becomes one line of a JSON log. Standard library only.

    fake_azure.py --log platform.jsonl --ready-file ready --user azureuser --hostname edge-vm-01 \\
                --key "ssh-ed25519 AAAA... demo" --vm-id 91267c52-9f02-4cfe-b1f4-a4da7ebac2cf --script script.json

The script (JSON, or TOML when the name ends in .toml) has a list of answers per endpoint:

    {"imds":        ["500", "500", "good"],
     "health-json": [{"status": 405}],
     "goalstate":   [{"shape": ["bom", "crlf"]}, {"delay_ms": 800}, "reset"],
     "health-xml":  [{"status": 410, "times": 2}, "good"],
     "versions":    ["good"],
     "reprovision": [{"status": 404, "times": 3}, {"body_file": "ovf-env.xml"}]}

One answer is used per request; the last one repeats for ever; no list means "good". An answer is a word
or an object:

    "good"                the service's own answer (after its checks)
    "404", "500" ...      this status with an error body
    "never"               the request is read, nothing is answered, the connection stays open
    "reset"               the request is read, then RST
    "truncated"           Content-Length promises all, half arrives, then FIN
    "two-bad-then-good"   "500", "500", "good"
    "refuse-json"         "404" for ever (also "refuse-json-405", "refuse-json-400")
    {status, body, body_file, headers: {name: value}, delay_ms, times, truncated: bytes, never: true,
     reset: true, chunked: true, shape: ["bom", "crlf", "entities"], incarnation: n, leave_out: "ContainerId"}

`status` replaces the service's own verdict; the log still says what that would have been. An address is
not listened on at all (connection refused) with `--imds none` or `--wireserver none`.
"""

import argparse
import base64
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
import tomllib
import urllib.parse
import xml.etree.ElementTree as ElementTree

IMDS = "169.254.169.254:80"
WIRESERVER = "168.63.129.16:80"
IP_FREEBIND = 15  # linux/in.h: bind before the address exists
ENDPOINTS = ("imds", "reprovision", "versions", "goalstate", "health-xml", "health-json")
API_VERSIONS = (
    "2017-04-02", "2017-08-01", "2017-12-01", "2018-02-01", "2018-04-02", "2018-10-01", "2019-02-01",
    "2019-03-11", "2019-04-30", "2019-06-01", "2019-06-04", "2019-08-01", "2019-08-15", "2019-11-01",
    "2020-06-01", "2020-07-15", "2020-09-01", "2020-10-01", "2020-12-01", "2021-01-01", "2021-02-01",
    "2021-03-01", "2021-05-01", "2021-08-01", "2021-10-01", "2021-11-01", "2021-12-13", "2023-07-01",
    "2023-11-15", "2025-04-07",
)
# Since when `compute` has a key (the service's own table).
FIRST_VERSIONS = {"publicKeys": "2018-04-02", "osProfile": "2020-07-15", "userData": "2021-01-01"}
DESCRIPTION_LIMIT = 4096  # characters; above it the wireserver answers 500 (WALinuxAgent issue 2017)
MESSAGE_LIMIT = 1 << 20


# --- requests ---------------------------------------------------------------------------------------------

class Request:
    """One HTTP/1.x request, as read from a connection."""

    def __init__(self, method, target, headers, body, faults):
        self.method, self.headers, self.body, self.faults = method, headers, body, faults
        self.target = target
        self.path, _, query = target.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))

    def header(self, name):
        """The value of a header, None when it is not there."""
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    def wants_close(self):
        return (self.header("connection") or "").lower() == "close"


def read_request(stream):
    """Reads one request from a file-like object; None at the end of the connection."""
    line = stream.readline(8192)
    if not line:
        return None
    faults = [] if line.endswith(b"\r\n") else ["request line does not end in CR LF"]
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return Request("?", "?", [], b"", faults + ["not an HTTP/1.x request line"])
    headers = []
    while (line := stream.readline(8192)) not in (b"\r\n", b"\n", b""):
        name, colon, value = line.decode("latin-1").partition(":")
        faults += [] if colon and name.strip() == name else ["malformed header"]
        headers.append((name.strip(), value.strip()))
    request = Request(words[0], words[1], headers, b"", faults)
    length = request.header("content-length")
    if length is not None and length.isdigit() and int(length) <= MESSAGE_LIMIT:
        request.body = stream.read(int(length))
        if len(request.body) != int(length):
            request.faults.append("body shorter than Content-Length")
    elif length is not None or request.method == "POST":
        request.faults.append("POST without a usable Content-Length")
    if request.header("host") is None:
        request.faults.append("no Host header")
    return request


# --- the services' own answers ----------------------------------------------------------------------------

class Answer:
    """Status, body and type; `faults` says which checks failed; `state` is the health that was reported."""

    def __init__(self, status, body=b"", kind="text/xml; charset=utf-8", faults=(), state=None):
        self.status, self.kind, self.faults, self.state = status, kind, list(faults), state
        self.body = body if isinstance(body, bytes) else body.encode()


def endpoint_of(request, service):
    """Which endpoint a request is for; None for a path nobody serves."""
    path, comp = request.path.rstrip("/"), request.query.get("comp")
    if service == "imds":
        if path == "/metadata/reprovisiondata":
            return "reprovision"
        return "imds" if (path + "/").startswith("/metadata/instance/") else None
    if request.path == "/provisioning/health":
        return "health-json"
    return {("", "versions"): "versions", ("/machine", "goalstate"): "goalstate",
            ("/machine", "health"): "health-xml"}.get((path, comp))


def answer_imds(request, platform):
    """Instance metadata: the header, no proxy, a known version, then the document or a part of it."""
    def refuse(text, status=400):
        return Answer(status, json.dumps({"error": text, "newest-versions": API_VERSIONS[:-4:-1]}),
                      "application/json; charset=utf-8", [text])
    if request.method != "GET":
        return refuse("Method not allowed", 405)
    if (request.header("metadata") or "").lower() != "true":
        return refuse("Bad request. Required metadata header not specified")
    if request.header("x-forwarded-for") is not None:
        return refuse("Bad request. Request was forwarded")
    version = request.query.get("api-version")
    if version not in API_VERSIONS:
        return refuse("Bad request. api-version is invalid or was not specified in the request")
    node = json.loads(json.dumps(platform.document))
    if request.query.get("extended") != "true" or version < "2021-01-01":
        node.pop("extended", None)
    compute = node.get("compute", {})
    for name, first in FIRST_VERSIONS.items():
        if version < first:
            compute.pop(name, None)
    for name in [n for n in request.path.split("/")[3:] if n]:
        try:
            node = node[int(name)] if isinstance(node, list) else node[name]
        except (KeyError, IndexError, TypeError, ValueError):
            return refuse("Not found", 404)
    if request.query.get("format") == "text" and not isinstance(node, (dict, list)):
        return Answer(200, str(node), "text/plain; charset=utf-8")
    return Answer(200, json.dumps(node, separators=(",", ":")), "application/json; charset=utf-8")


def answer_reprovision(request, platform):
    """The owner's ovf-env.xml for a VM of a pool: there only where a script has it (`body_file`)."""
    if (request.header("metadata") or "").lower() != "true" or request.query.get("api-version") != "2019-06-01":
        return Answer(400, faults=["no Metadata header, or another api-version than 2019-06-01"])
    return Answer(200 if "reprovision" in platform.script.lists else 404)


def wire_header_faults(request):
    """What the wireserver wants in every request of the XML protocol; the agent name is any word."""
    faults = [] if request.header("x-ms-version") == "2012-11-30" else ["x-ms-version is not 2012-11-30"]
    name = request.header("x-ms-agent-name")
    return faults + ([] if name is None or name.strip() else ["empty x-ms-agent-name"])


def answer_versions(request, platform):
    body = ('<?xml version="1.0" encoding="utf-8"?><Versions><Preferred><Version>2015-04-05</Version></Preferred>'
            '<Supported><Version>2015-04-05</Version><Version>2012-11-30</Version></Supported></Versions>')
    return Answer(200 if request.method == "GET" else 405, body)


def answer_goalstate(request, platform):
    faults = wire_header_faults(request)
    if request.method != "GET":
        return Answer(405, faults=["goal state is read with GET"])
    return Answer(400, faults=faults) if faults else Answer(200, platform.goal_state())


def answer_health_xml(request, platform):
    """The XML health report: headers, grammar, identity, description."""
    faults = wire_header_faults(request)
    if request.method != "POST":
        return Answer(405, faults=["health is reported with POST"])
    if not (request.header("content-type") or "").lower().startswith("text/xml"):
        faults.append("Content-Type is not text/xml")
    try:
        root = ElementTree.fromstring(request.body)
    except ElementTree.ParseError as error:
        return Answer(400, faults=faults + [f"not XML: {error}"])
    text = lambda path: (root.findtext(path) or "").strip()  # noqa: E731
    role = "Container/RoleInstanceList/Role/"
    if root.tag != "Health":
        faults.append("root element is not Health")
    if text("Container/ContainerId") != platform.container_id:
        faults.append("wrong ContainerId")
    if text(role + "InstanceId") != platform.instance_id:
        faults.append("wrong InstanceId")
    state, details = text(role + "Health/State"), role + "Health/Details/"
    status, more = judge_health(state, root.find(details[:-1]) is not None, text(details + "SubStatus"),
                                root.findtext(details + "Description") or "")
    faults += more
    if not faults and text("GoalStateIncarnation") != str(platform.incarnation):
        return Answer(410, faults=["stale GoalStateIncarnation"], state=state)
    state = said_state(state, text(details + "SubStatus"))
    return Answer((status if more else 400) if faults else 200, faults=faults, state=state)


def answer_health_json(request, platform):
    """The JSON health report: no goal state, no ids."""
    faults = []
    if request.method != "POST":
        return Answer(405, faults=["health is reported with POST"])
    if not (request.header("x-ms-guest-agent-name") or "").strip():
        faults.append("no x-ms-guest-agent-name")
    if (request.header("content-type") or "").split(";")[0].strip().lower() != "application/json":
        faults.append("Content-Type is not application/json")
    try:
        report = json.loads(request.body)
        details = report.get("details")
        words = details if isinstance(details, dict) else {}
        unknown = set(report) - {"state", "details"} | set(words) - {"subStatus", "description"}
        status, more = judge_health(report.get("state"), details is not None, words.get("subStatus"),
                                    words.get("description", ""))
    except (ValueError, AttributeError, TypeError) as error:
        return Answer(400, faults=faults + [f"not a JSON health report: {error}"])
    faults += more + ([f"unknown member {sorted(unknown)[0]}"] if unknown else [])
    state = said_state(report.get("state"), words.get("subStatus"))
    return Answer((status if more else 400) if faults else 200, "", "application/json", faults, state)


def said_state(state, substatus):
    """A VM that is still worked on is not ready, but nobody gives it up."""
    return "Provisioning" if (state, substatus) == ("NotReady", "Provisioning") else state


def judge_health(state, has_details, substatus, description):
    """Status and faults that both forms of a report share."""
    if state not in ("Ready", "NotReady"):
        return 400, ["state is neither Ready nor NotReady"]
    if state == "Ready":
        return (400, ["Ready with details"]) if has_details else (200, [])
    if substatus not in ("Provisioning", "ProvisioningFailed"):
        return 400, ["NotReady without Provisioning or ProvisioningFailed"]
    if not description:
        return 400, ["NotReady without description"]
    if len(description) > DESCRIPTION_LIMIT:
        return 500, [f"description longer than {DESCRIPTION_LIMIT}"]
    return 200, []


ANSWERS = {"imds": answer_imds, "reprovision": answer_reprovision, "versions": answer_versions, "goalstate": answer_goalstate,
           "health-xml": answer_health_xml, "health-json": answer_health_json}


# --- the script -------------------------------------------------------------------------------------------

def expand(entry):
    """One entry of a script as a list of answer objects."""
    if isinstance(entry, int):
        entry = str(entry)
    if isinstance(entry, str):
        words = {"good": [{}], "never": [{"never": True}], "silent": [{"never": True}], "reset": [{"reset": True}],
                 "truncated": [{"truncated": -1}], "two-bad-then-good": [{"status": 500}, {"status": 500}, {}],
                 "refuse-json": [{"status": 404}], "refuse-json-404": [{"status": 404}],
                 "refuse-json-405": [{"status": 405}], "refuse-json-400": [{"status": 400}]}
        if entry in words:
            return words[entry]
        if entry.isdigit():
            return [{"status": int(entry)}]
        raise SystemExit(f"platform: script: unknown answer {entry!r}")
    known = {"status", "body", "body_file", "headers", "delay_ms", "times", "truncated", "never", "reset",
             "chunked", "shape", "incarnation", "leave_out"}
    if set(entry) - known:
        raise SystemExit(f"platform: script: unknown member {sorted(set(entry) - known)[0]!r}")
    return [entry] * int(entry.get("times", 1))


class Script:
    """The lists of answers, one taken per request."""

    def __init__(self, table):
        if set(table) - set(ENDPOINTS):
            raise SystemExit(f"platform: script: unknown endpoint {sorted(set(table) - set(ENDPOINTS))[0]!r}")
        self.lists = {}
        for name, entries in table.items():
            entries = entries if isinstance(entries, list) else [entries]
            self.lists[name] = [answer for entry in entries for answer in expand(entry)] or [{}]
        self.lock = threading.Lock()

    def next(self, endpoint):
        """The answer for the next request; the last of a list repeats."""
        with self.lock:
            answers = self.lists.get(endpoint, [{}])
            return answers.pop(0) if len(answers) > 1 else answers[0]


def load_script(path):
    if path is None:
        return Script({})
    with open(path, "rb") as file:
        return Script(tomllib.load(file) if path.endswith(".toml") else json.load(file))


# --- the platform -----------------------------------------------------------------------------------------

GOAL_STATE = """<?xml version="1.0" encoding="utf-8"?>
<GoalState xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xsi:noNamespaceSchemaLocation="goalstate10.xsd">
  <Version>2012-11-30</Version>
  <Incarnation>{incarnation}</Incarnation>
  <Machine>
    <ExpectedState>Started</ExpectedState>
    <StopRolesDeadlineHint>300000</StopRolesDeadlineHint>
    <LBProbePorts><Port>16001</Port></LBProbePorts>
    <ExpectHealthReport>FALSE</ExpectHealthReport>
  </Machine>
  <Container>
    <ContainerId>{container_id}</ContainerId>
    <RoleInstanceList>
      <RoleInstance>
        <InstanceId>{instance_id}</InstanceId>
        <State>Started</State>
        <Configuration>
          <HostingEnvironmentConfig>http://168.63.129.16:80/machine/c/i?comp=config&amp;type=hostingEnvironmentConfig&amp;incarnation={incarnation}</HostingEnvironmentConfig>
          <SharedConfig>http://168.63.129.16:80/machine/c/i?comp=config&amp;type=sharedConfig&amp;incarnation={incarnation}</SharedConfig>
          <Certificates>http://168.63.129.16:80/machine/c/i?comp=certificates&amp;incarnation={incarnation}</Certificates>
          <ConfigName>11112222-3333-4444-5555-666677778888.0.{instance_id}.1.xml</ConfigName>
        </Configuration>
      </RoleInstance>
    </RoleInstanceList>
  </Container>
</GoalState>
"""


class Platform:
    """What both services know, and the log."""

    def __init__(self, document, script, log=None, ready_file=None, container_id=None, instance_id=None, rate_limit=0):
        self.rate_limit, self.asked = rate_limit, []
        self.document, self.script = document, script
        self.container_id = container_id or "5b2f9a3e-0000-4000-8000-9c1d2e3f4a5b"
        self.instance_id = instance_id or "11112222-3333-4444-5555-666677778888._edge-vm-01"
        self.incarnation = 1
        self.log, self.ready_file = log, ready_file
        self.lock = threading.Lock()

    def goal_state(self):
        return GOAL_STATE.format(incarnation=self.incarnation, container_id=self.container_id,
                                 instance_id=self.instance_id)

    def write(self, **record):
        """One line of the log."""
        record = {"time": round(time.time(), 6), "monotonic": round(time.monotonic(), 6), **record}
        with self.lock:
            if self.log is not None:
                self.log.write(json.dumps(record) + "\n")
                self.log.flush()

    def judge(self, request, service):
        """The endpoint, the service's own answer and the script's wish."""
        endpoint = endpoint_of(request, service)
        if endpoint is None:
            return None, Answer(404, faults=["unknown path"]), {}
        if service == "imds" and self.is_too_fast():
            return endpoint, Answer(429, '{"error":"Too many requests"}', "application/json; charset=utf-8",
                                    ["too many requests in a second"]), {}
        wish = self.script.next(endpoint)
        self.incarnation = wish.get("incarnation", self.incarnation)
        return endpoint, ANSWERS[endpoint](request, self), wish

    def is_too_fast(self):
        """More requests within a second than IMDS takes."""
        with self.lock:
            now = time.monotonic()
            self.asked = [at for at in self.asked if now - at < 1] + [now]
            return 0 < self.rate_limit < len(self.asked)

    def received(self, peer, service, request):
        """Logs a request and decides the bytes of its answer; None means never, b"" means reset."""
        endpoint, answer, wish = self.judge(request, service)
        own_status = answer.status = 400 if request.faults else answer.status
        shape_answer(answer, wish)
        end = next((word for word in ("never", "reset") if wish.get(word)), None)
        said = end or ("truncated" if "truncated" in wish else answer.status)
        self.write(event="request", service=service, endpoint=endpoint, peer=peer, method=request.method,
                   path=request.target, headers=request.headers, body=request.body.decode("utf-8", "replace"),
                   verdict="; ".join(request.faults + answer.faults) or "ok", own_status=own_status, answer=said,
                   state=answer.state)
        if answer.state == "Ready" and answer.status in (200, 201, 202) and end is None and self.ready_file:
            with open(self.ready_file, "a", encoding="utf-8") as file:
                file.write(f"{time.time():.6f}\n")
        time.sleep(wish.get("delay_ms", 0) / 1000)
        return {"never": None, "reset": b""}.get(end, None if end else encode(answer, wish))


def shape_answer(answer, wish):
    """Applies what a script wants changed in an answer."""
    if "status" in wish and wish["status"] != answer.status:
        answer.status = int(wish["status"])
        if answer.status >= 400:
            answer.body = b'{"error":"scripted"}' if "json" in answer.kind else b"<Error>scripted</Error>"
    if "body_file" in wish:
        with open(wish["body_file"], "rb") as file:
            answer.body = file.read()
    if "body" in wish:
        answer.body = wish["body"].encode()
    if "leave_out" in wish:
        name = wish["leave_out"].encode()
        head, _, rest = answer.body.partition(b"<" + name + b">")
        answer.body = head + rest.partition(b"</" + name + b">")[2]
    shape = wish.get("shape", [])
    if "entities" in shape:
        answer.body = answer.body.replace(b"._", b"&#46;&#x5F;").replace(b"-4000-", b"&#45;4000&#x2d;")
    if "crlf" in shape:
        answer.body = answer.body.replace(b"\n", b"\r\n")
    if "bom" in shape:
        answer.body = b"\xef\xbb\xbf" + answer.body


def encode(answer, wish):
    """The bytes of an answer."""
    reasons = {200: "OK", 201: "Created", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
               410: "Gone", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}
    head = [f"HTTP/1.1 {answer.status} {reasons.get(answer.status, 'Scripted')}", f"Content-Type: {answer.kind}",
            *(f"{name}: {value}" for name, value in wish.get("headers", {}).items())]
    body = answer.body
    if wish.get("chunked"):
        head.append("Transfer-Encoding: chunked")
        pieces = [body[at:at + 700] for at in range(0, len(body), 700)] + [b""]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    else:
        head.append(f"Content-Length: {len(body)}")
    if "truncated" in wish:
        body = body[:wish["truncated"] if wish["truncated"] >= 0 else len(body) // 2]
    return "\r\n".join(head + ["", ""]).encode() + body


# --- sockets ----------------------------------------------------------------------------------------------

def serve_connection(connection, peer, platform, service):
    """Answers the requests of one connection."""
    count = 0
    with connection, connection.makefile("rb") as stream:
        connection.settimeout(60)
        try:
            while (request := read_request(stream)) is not None:
                count += 1
                reply = platform.received(f"{peer[0]}:{peer[1]}", service, request)
                if reply is None:
                    wait_for_end(connection)
                    return
                if not reply:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                connection.sendall(reply)
                cut = b"Transfer-Encoding" not in reply and len(reply.partition(b"\r\n\r\n")[2]) < promised(reply)
                if request.wants_close() or request.faults or cut:
                    return
        except OSError:
            pass
        finally:
            if count == 0:
                platform.write(event="connection", service=service, peer=f"{peer[0]}:{peer[1]}", requests=0)


def promised(reply):
    """Content-Length of an encoded answer."""
    for line in reply.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if line.startswith(b"Content-Length: "):
            return int(line[16:])
    return 0


def wait_for_end(connection):
    """Keeps a connection open until the peer closes it."""
    connection.settimeout(None)
    while connection.recv(4096):
        pass


def listen(where, platform, service):
    """Listens on `address:port` in a thread; returns the socket (port 0: the kernel picks one)."""
    address, _, port = where.rpartition(":")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    listener.bind((address, int(port)))
    listener.listen(64)

    def accept():
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve_connection, args=(connection, peer, platform, service), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return listener


# --- the IMDS document ------------------------------------------------------------------------------------

def instance_document(options):
    """A reply of /metadata/instance with extended=true, in the shape of azure-init's test server."""
    subscription = "00000000-1111-2222-3333-444444444444"
    prefix = f"/subscriptions/{subscription}/resourceGroups/rg-demo/providers/Microsoft.Compute/"
    tags = [dict(zip(("name", "value"), tag.partition("=")[::2])) for tag in options.tag]
    tags += [{"name": f"tag{n:02d}-{'n' * 500}", "value": "v" * 256} for n in range(options.big_tags)]
    keys = [{"keyData": read_key(key), "path": f"/home/{options.user}/.ssh/authorized_keys"} for key in options.key]
    compute = {
        "additionalCapabilities": {"hibernationEnabled": "false"}, "azEnvironment": "AzurePublicCloud",
        "customData": "", "evictionPolicy": "", "extendedLocation": {"name": "", "type": ""}, "host": {"id": ""},
        "hostGroup": {"id": ""}, "isHostCompatibilityLayerVm": "false", "licenseType": "",
        "location": "koreacentral", "name": options.hostname, "offer": "appliance",
        "osProfile": {"adminUsername": options.user, "computerName": options.hostname,
                      "disablePasswordAuthentication": options.disable_password},
        "osType": "Linux", "plan": {"name": "", "product": "", "publisher": ""}, "provider": "Microsoft.Compute",
        "publicKeys": keys, "publisher": "contoso", "resourceGroupName": "rg-demo",
        "resourceId": prefix + "virtualMachines/" + options.hostname,
        "securityProfile": {"encryptionAtHost": "false", "secureBootEnabled": "true",
                            "securityType": "TrustedLaunch", "virtualTpmEnabled": "true"},
        "sku": "gen2", "storageProfile": storage_profile(prefix), "subscriptionId": subscription,
        "tags": ";".join(f"{tag['name']}:{tag['value']}" for tag in tags), "tagsList": tags,
        "userData": user_data(options.user_data), "version": "1.2.3", "virtualMachineScaleSet": {"id": ""},
        "vmId": options.vm_id, "vmScaleSetName": "", "vmSize": "Standard_D2ds_v5", "zone": "1"}
    if options.no_os_profile:
        del compute["osProfile"]
    network = {"interface": [
        {"ipv4": {"ipAddress": [{"privateIpAddress": options.ip, "publicIpAddress": "203.0.113.10"}],
                  "subnet": [{"address": options.ip.rpartition(".")[0] + ".0", "prefix": "24"}]},
         "ipv6": {"ipAddress": []}, "macAddress": options.mac.replace(":", "").upper()}]}
    network["interface"] += map(interface, options.nic)
    extended = {"compute": {"hasCustomData": options.has_custom_data, "ppsType": options.pps_type}}
    return {"compute": compute, "network": network, "extended": extended}


def interface(words):
    """MAC[=ADDRESS,...] as a further interface of the document."""
    mac, _, addresses = words.partition("=")
    families = {"ipv4": [], "ipv6": []}
    for address in filter(None, addresses.split(",")):
        families["ipv6" if ":" in address else "ipv4"].append({"privateIpAddress": address, "publicIpAddress": ""})
    first = families["ipv4"][0]["privateIpAddress"] if families["ipv4"] else "10.0.0.0"
    return {"ipv4": {"ipAddress": families["ipv4"], "subnet": [{"address": first.rpartition(".")[0] + ".0", "prefix": "24"}]},
            "ipv6": {"ipAddress": families["ipv6"]}, "macAddress": mac.replace(":", "").upper()}


def storage_profile(prefix):
    os_disk = {"caching": "ReadWrite", "createOption": "FromImage", "diffDiskSettings": {"option": ""},
               "diskSizeGB": "8", "image": {"uri": ""},
               "managedDisk": {"id": prefix + "disks/os", "storageAccountType": "Premium_LRS"},
               "name": "os", "osType": "Linux", "vhd": {"uri": ""}, "writeAcceleratorEnabled": "false"}
    image = {"communityGalleryImageId": "", "exactVersion": "1.2.3", "id": "", "offer": "appliance",
             "publisher": "contoso", "sharedGalleryImageId": "", "sku": "gen2", "version": "latest"}
    return {"dataDisks": [], "imageReference": image, "osDisk": os_disk, "resourceDisk": {"size": "76800"}}


def read_key(key):
    """A key line; `@file` reads it. The platform keeps a trailing newline, and so do we."""
    if key.startswith("@"):
        with open(key[1:], encoding="utf-8") as file:
            key = file.read()
    return key.rstrip("\n") + "\n"


def user_data(path):
    if path is None:
        return ""
    with open(path, "rb") as file:
        return base64.b64encode(file.read()).decode()


# --- the program ------------------------------------------------------------------------------------------

def arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imds", default=IMDS, metavar="ADDRESS:PORT", help=f"default {IMDS}; none: not there")
    parser.add_argument("--wireserver", default=WIRESERVER, metavar="ADDRESS:PORT", help=f"default {WIRESERVER}")
    parser.add_argument("--script", metavar="FILE", help="answers per endpoint (.json or .toml)")
    parser.add_argument("--log", metavar="FILE", help="JSON lines, one per request (appended)")
    parser.add_argument("--ready-file", metavar="FILE", help="gets one line per accepted Ready")
    parser.add_argument("--document", metavar="FILE", help="the whole IMDS reply, instead of the options below")
    parser.add_argument("--print-document", action="store_true", help="only the IMDS reply, on standard output")
    parser.add_argument("--user", default="azureuser")
    parser.add_argument("--hostname", default="edge-vm-01")
    parser.add_argument("--key", action="append", default=[], help="a public key line or @file; repeatable")
    parser.add_argument("--vm-id", default="91267c52-9f02-4cfe-b1f4-a4da7ebac2cf")
    parser.add_argument("--ip", default="10.0.0.4")
    parser.add_argument("--mac", default="00:0d:3a:12:34:56")
    parser.add_argument("--nic", action="append", default=[], metavar="MAC[=ADDRESS,...]", help="a further interface; repeatable")
    parser.add_argument("--rate-limit", type=int, default=0, metavar="N", help="429 above N requests to IMDS in a second; it takes 5")
    parser.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--big-tags", type=int, default=0, metavar="N", help="N tags of 762 bytes, present twice")
    parser.add_argument("--user-data", metavar="FILE")
    parser.add_argument("--disable-password", choices=("true", "false"), default="true")
    parser.add_argument("--has-custom-data", action="store_true")
    parser.add_argument("--pps-type", default="None")
    parser.add_argument("--no-os-profile", action="store_true", help="a specialised disk")
    parser.add_argument("--container-id")
    parser.add_argument("--instance-id", help="the wireserver's, not the VM id")
    return parser.parse_args(words)


def main():
    options = arguments()
    document = instance_document(options)
    if options.document:
        with open(options.document, "rb") as file:
            document = json.load(file)
    if options.print_document:
        print(json.dumps(document))
        return
    log = open(options.log, "a", encoding="utf-8") if options.log else None
    platform = Platform(document, load_script(options.script), log, options.ready_file, options.container_id,
                        options.instance_id, options.rate_limit)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for service, where in (("imds", options.imds), ("wireserver", options.wireserver)):
        if where != "none":
            address, port = listen(where, platform, service).getsockname()
            platform.write(event="listening", service=service, address=f"{address}:{port}")
            print(f"platform: {service} on {address}:{port}", flush=True)
    print("platform: listening", flush=True)
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
