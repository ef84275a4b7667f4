"""The variables of Ansible's roles with target ``hosts``: a stack, resolved for one host."""
