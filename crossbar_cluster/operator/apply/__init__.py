"""``crossbar-cluster apply``: a management realm as a file describes it.

What happens, in this order, each in a module of its own:

- `reading` checks the whole file (`source`: YAML with positions; `kinds`: what may stand where) into a `Description`;
- `observing` asks the master what there is: an `Actual`;
- `planning` compares the two, and says in `steps` what is to be done; pure, and what is as described plans to nothing;
- `view` shows the steps, `carrying` carries them out; `command` holds it together.

`model` has the nouns that all of them use.
"""
