"""The folders of models: found on this machine, fetched from the hub."""
