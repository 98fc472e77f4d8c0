"""One function a command. Each is imported when it is called for, so that `assent --help` loads none of them."""
