"""The one durable store: `contract` is the waist, `memory` its model, `lmdb` the real one."""
