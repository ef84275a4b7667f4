"""The policy pack for `pulumi preview --policy-pack policies`. The rules are in `rules/`."""

from collections.abc import Callable

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyPack,
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

# Pulumi runs this folder as the program, so its packages are top-level here.
from rules import RULES, STACK_RULES, Resource, Rule, StackRule

_LEVELS = {"mandatory": EnforcementLevel.MANDATORY, "advisory": EnforcementLevel.ADVISORY}


def _resource(args: ResourceValidationArgs | PolicyResource) -> Resource:
    stack = args.urn.removeprefix("urn:pulumi:").partition("::")[0]
    return Resource(args.resource_type, args.name, stack, args.props)


def _validator(rule: Rule) -> Callable[[ResourceValidationArgs, ReportViolation], None]:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for violation in rule.check(_resource(args)):
            report(violation)

    return validate


def _stack_validator(rule: StackRule) -> Callable[[StackValidationArgs, ReportViolation], None]:
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        for violation in rule.check([_resource(item) for item in args.resources]):
            report(violation)

    return validate


def _policies() -> list[Policy]:
    single = [
        ResourceValidationPolicy(
            rule.name, rule.description, _validator(rule), enforcement_level=_LEVELS[rule.enforcement]
        )
        for rule in RULES
    ]
    whole = [
        StackValidationPolicy(
            rule.name, rule.description, _stack_validator(rule), enforcement_level=_LEVELS[rule.enforcement]
        )
        for rule in STACK_RULES
    ]
    return [*single, *whole]


PolicyPack("ai-assist", _policies())
