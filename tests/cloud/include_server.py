#!/usr/bin/env python3
"""Serves documents that user data include, on 127.0.0.1, and looks at who asks while it answers: for tests/cloud-config-include.sh.

usage: include_server.py PORT NOTES; what it saw is in the file NOTES, a line for each request.
"""
import http.server
import os
import sys

NOTES = sys.argv[2]
INNER = """#cloud-config
merge_how: 'dict(recurse_dict,recurse_list)+list(append)'
write_files:
- {path: /etc/preroot-test/inner, content: inner}
users:
- {name: prerootinner, lock_passwd: true, homedir: /srv/inner, shell: /bin/sh}
runcmd:
- echo inner runcmd ran
"""
PAGES = {
    "/config": INNER,
    "/script": "#!/bin/sh\necho included script ran\n",
    "/nested": "#include\nhttp://127.0.0.1:%s/config?sig=canary\n" % sys.argv[1],
    "/mime": 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: text/x-shellscript\n'
    'Content-Disposition: attachment; filename="named.sh"\n\n#!/bin/sh\necho named script ran\n--B--\n',
}


def curls():
    """What everybody could see of the programs that ask: their users, and whether a secret stands on a command line."""
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%s/comm" % name) as file:
                if not name.isdigit() or file.read().strip() not in ("curl", "preroot"):
                    continue
            texts = [open("/proc/%s/%s" % (name, part), "rb").read() for part in ("cmdline", "environ")]
            is_secret = any(b"canary" in text for text in texts)
            yield "%s %s %s" % (open("/proc/%s/comm" % name).read().strip(), os.stat("/proc/" + name).st_uid, "SECRET" if is_secret else "clean")
        except OSError:
            pass


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.split("?")[0]
        with open(NOTES, "a") as notes:
            notes.write("%s: %s\n" % (path, ", ".join(sorted(curls()))))
        if path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "file:///etc/shadow")
            self.end_headers()
        elif path == "/large":
            # Nobody says before how long it is.
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(17):
                    self.wfile.write(b"#" * (1 << 20))
            except OSError:
                pass
        elif path in PAGES:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PAGES[path])))
            self.end_headers()
            self.wfile.write(PAGES[path].encode())
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
