"""What http, sse and websocket are carried on: checked connections, directly or through a configured proxy.

`roads` reaches the host of a URL and hands out a checked stream; `wire` speaks HTTP/1.1 on one, counts what passes,
ends floods and keeps idle connections by what they may be shared for; `taking` hands output up under credit.
"""
