"""How a foreign program is confined: the warm spawner, the jail it builds, the proof the supervisor reads, the
fallbacks.

`syscalls`, `seccomp`, `landlock`, `arrivals`, `jail`, `warden`, `spawner` and `stage` also run outside this package's
interpreter, in small processes started with `-I -S`: they import only each other (relatively) and the standard
library.
"""
