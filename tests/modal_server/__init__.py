"""A stand-in for Modal's servers: `python -m tests.modal_server --state FOLDER`, which prints where it listens.

The real SDK deploys to it over gRPC, and starts sessions with it over HTTP. Containers are processes on this machine
that the SDK's own entrypoint runs; a proxy leads each session to its container. Stood in for, and not what Modal does:

- Images are built in name alone: their steps are told, and containers run on this machine's Python and see its files.
- A volume is a folder, and the one that a container has mounted is told to it (`WORKER_WEIGHTS_PATH`).
- A snapshot is not taken. The first container of a deployment asks for one and goes on as itself; later ones load just
  like it, and are then told that they are somebody else, which is how a restored process finds out.
- Each container has an address of its own on the loopback interface (`WORKER_HOST`), where on Modal it has a machine.
"""
