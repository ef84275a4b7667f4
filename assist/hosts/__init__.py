"""What Ansible's roles of target ``hosts`` are told: the Service, resolved for one host of an inventory."""
