"""A cluster's register as one YAML file: FILE resolve | edit nodes|profiles NAME TAG VALUE | list."""
import json, os, sys
import yaml

def merge(base, over):
    for key, value in over.items():
        if isinstance(value, dict):
            base[key] = merge(dict(base.get(key, {})), value)
        elif isinstance(value, list):
            base[key] = base.get(key, []) + value
        else:
            base[key] = value
    return base

def resolved(document, spec):
    result = {}
    for profile in spec["profiles"]:
        merge(result, document["profiles"][profile])
    return merge(result, spec)

path, act, *words = sys.argv[1:]
with open(path) as file:
    document = yaml.load(file, Loader=yaml.CSafeLoader)
if act == "edit":
    document[words[0]][words[1]].setdefault("tags", {})[words[2]] = words[3]
    with open(path + ".new", "w") as file:
        yaml.dump(document, file, Dumper=yaml.CSafeDumper)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".new", path)
if act == "resolve" or words[:1] == ["profiles"]:
    print(json.dumps({name: resolved(document, spec) for name, spec in document["nodes"].items()}))
if act == "list":
    for name, spec in document["nodes"].items():
        print(name, resolved(document, spec)["tags"]["role"])
