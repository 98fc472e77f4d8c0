"""How a foreign program is confined: the ways to build a sandbox, the proof the supervisor reads, and the choice among
them (`roster.py`).

`syscalls`, `seccomp`, `landlock`, `fence`, `kernels`, `arrivals`, `jail`, `warden`, `spawner`, `stage`, `moving` and
`monitor` also run outside this package's interpreter, in small processes started with `-I -S`: they import only each
other (relatively) and the standard library. `attacks` and `guest` stand alone: their text runs where nothing of this
package is.
"""
