"""An independent controller, p4runtime-shell from PyPI, against the software switch.

Usage: shell.py HOST:PORT P4INFO SPEC. Ends with 0 when the switch does all that is asked here as the standard says.
"""

import sys

import grpc
import p4runtime_sh.shell as sh
from p4.v1 import p4runtime_pb2, p4runtime_pb2_grpc

address, p4info, spec = sys.argv[1:]


def refusal(action):
    """What the switch says to an update that it refuses; nothing when it does not."""
    try:
        action()
    except Exception as refused:  # The shell has no class of its own for all of them.
        return str(refused)
    return ""


def check(what, is_right):
    print(("ok    " if is_right else "WRONG ") + what)
    if not is_right:
        sys.exit(1)


def flow(sport, local_port=1):
    entry = sh.TableEntry("flow_v4")(action="rewrite_v4")
    entry.match["src"] = "192.0.2.7"
    entry.match["dst"] = "198.51.100.10"
    entry.match["proto"] = "6"
    entry.match["sport"] = str(sport)
    entry.match["dport"] = "80"
    entry.action["src"] = "10.0.1.5"
    entry.action["dst"] = "10.0.1.20"
    entry.action["sport"] = str(local_port)
    entry.action["dport"] = "8080"
    entry.action["nexthop"] = "1"
    return entry


sh.setup(device_id=1, grpc_addr=address, election_id=(0, 5), config=sh.FwdPipeConfig(p4info, spec))
check("the pipeline is set and read back", sh.client.get_p4info() is not None)

for sport in range(1000, 1010):
    flow(sport).insert()
check("entries are inserted and read back", len(list(sh.TableEntry("flow_v4").read())) == 10)
one = list(flow(1003).read())
check("one entry is read by its key", len(one) == 1)
check("with its action", one[0].action["dst"].value == bytes([10, 0, 1, 20]))
check("another table has none of them", list(sh.TableEntry("flow_v6").read()) == [])

check("twice is ALREADY_EXISTS", "ALREADY_EXISTS" in refusal(flow(1003).insert))
flow(1003, 77).modify()
check("a modified entry has its new action", list(flow(1003).read())[0].action["sport"].value == bytes([77]))
check("what is not there is NOT_FOUND", "NOT_FOUND" in refusal(flow(5).modify))
check("and so for a deletion", "NOT_FOUND" in refusal(flow(5).delete))

counters = list(sh.DirectCounterEntry("flow_v4_count").read())
check("direct counters are read", len(counters) == 10 and all(c.packet_count == 0 for c in counters))
check("counters are read", len(list(sh.CounterEntry("drops").read())) == 64)



def worker(number):
    entry = sh.TableEntry("slowpath")(action="to_port")
    entry.match["worker"] = str(number)
    entry.action["port"] = "1"
    return entry


for number in range(64):
    worker(number).insert()
check("a full table is RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED" in refusal(worker(64).insert))

channel = grpc.insecure_channel(address)
stub = p4runtime_pb2_grpc.P4RuntimeStub(channel)
request = p4runtime_pb2.WriteRequest(device_id=1)
request.election_id.low = 4
try:
    stub.Write(request)
    check("who is not primary cannot write", False)
except grpc.RpcError as error:
    check("who is not primary cannot write", error.code() == grpc.StatusCode.PERMISSION_DENIED)
version = stub.Capabilities(p4runtime_pb2.CapabilitiesRequest()).p4runtime_api_version
check("the version is told: " + version, version.startswith("1."))

for entry in sh.TableEntry("flow_v4").read():
    entry.delete()
check("all are deleted", list(sh.TableEntry("flow_v4").read()) == [])
sh.teardown()
