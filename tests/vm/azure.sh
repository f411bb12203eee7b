# shellcheck shell=bash
# Who is the machine to be, and who answers it? People, media and the fake platform of one laboratory machine.
# (sourced, after lab.sh)

VM_ID=91267c52-9f02-4cfe-b1f4-a4da7ebac2cf # what SMBIOS's 527c2691-029f-fe4c-... is on a generation 1 machine
NAMESPACE=${NAMESPACE:-lab-$$}
LAB=$VM_DIR/lab-$NAMESPACE
export VM_ID VM_USER VM_HOST VM_PASSWORD VM_KEY VM_CUSTOM_DATA

# A new person with new secrets, each with a canary that can be searched for.
new_person() {
    local random
    rm -rf "$LAB"
    mkdir -p "$LAB"
    random=$(od -An -N9 -tx1 /dev/urandom | tr -d ' \n')
    CANARY_PASSWORD=pw${random:0:10}
    CANARY_KEY=key${random:4:10}
    CANARY_DATA=data${random:6:10}
    VM_USER=azureuser VM_HOST=edge-vm-01
    VM_PASSWORD="P@ss <&> $CANARY_PASSWORD"
    ssh-keygen -q -t ed25519 -N '' -C "$CANARY_KEY@example.invalid" -f "$LAB/key"
    VM_KEY=$(cat "$LAB/key.pub")
    VM_CUSTOM_DATA="#!/bin/sh
# $CANARY_DATA
true"
}

# azure_up NETWORK [fake_azure.py's options...]: network, DHCP and both services; NETWORK as in namespace.sh.
azure_up() {
    local kind=$1
    shift
    sh "$REPO/tests/cloud/namespace.sh" up "$NAMESPACE" tap "$kind"
    rm -f "$LAB/platform.jsonl" "$LAB/ready"
    : >"$LAB/platform.jsonl"
    : >"$LAB/ready"
    sh "$REPO/tests/cloud/namespace.sh" cloud "$NAMESPACE" python3 "$REPO/tests/cloud/fake_azure.py" \
        --log "$LAB/platform.jsonl" --ready-file "$LAB/ready" --vm-id "$VM_ID" --user "$VM_USER" --hostname "$VM_HOST" \
        --key "$VM_KEY" --disable-password false --has-custom-data "$@" >"$LAB/platform.out" 2>&1 &
    PLATFORM_PID=$!
    sleep 0.5
    kill -0 "$PLATFORM_PID" 2>/dev/null || { cat "$LAB/platform.out" >&2; die "the fake platform does not start"; }
}

azure_down() {
    if [ -n "${PLATFORM_PID:-}" ]; then
        kill "$PLATFORM_PID" 2>/dev/null || true
        wait "$PLATFORM_PID" 2>/dev/null || true
    fi
    PLATFORM_PID=''
    cp "${PREROOT_LAB:-/run/preroot-lab}/$NAMESPACE/dnsmasq.log" "$LAB/dhcp.log" 2>/dev/null || true
    sh "$REPO/tests/cloud/namespace.sh" down "$NAMESPACE" 2>/dev/null || true
}

# How often did the platform accept this state?
reported() { grep "\"state\": \"$1\"" "$LAB/platform.jsonl" | grep -c '"answer": 20[0-2]' || true; }
