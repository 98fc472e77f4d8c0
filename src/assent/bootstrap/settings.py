"""Settings: one `assent.toml`, found, read and judged whole. Every mistake is told at once, with its line.

    [assent]    tenant, data, workspace, policy, connectors: the folders of this installation
    [people]    who else may answer for things here; the user of the operating system always may
    [agents]    who acts on behalf of people, and which of them can be talked to
    [models]    which models can be asked, and where
    [skills]    which skills in the workspace somebody vouches for
    [services]  programs that do
    [targets]   where else things may run: hosts reached by SSH, and guest nodes
    [hub]       where guest nodes come in
    [search]    how the web and files are searched
    [web]       how hosts are reached: proxy, authorities, client certificate
    [[budgets]] how much may be used, by whom, in which time
    [policy]    whose signatures put a policy in force
    [defaults]  as whom `assent do` asks

What an agent may write and what binds it must lie apart: the workspace holds neither the policy, nor the connectors,
nor the data, nor the settings themselves, and lies in none of their folders. Links are followed before this is judged.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from assent.bootstrap.settings_agents import AGENT_KEYS, MODEL_KEYS, ModelSettings, read_agents, read_models
from assent.bootstrap.settings_budgets import BUDGET_KEYS, read_budgets
from assent.bootstrap.settings_identity import IDENTITY_KEYS, WORKLOAD_KEYS, read_identity, read_workloads
from assent.bootstrap.settings_policy import POLICY_KEYS, read_signers
from assent.bootstrap.settings_search import SEARCH_KEYS, SearchSettings, check_tools, read_search
from assent.bootstrap.settings_skills import SKILL_KEYS, SkillSettings, read_skills
from assent.bootstrap.settings_targets import ALL_KEYS, HUB_KEYS, HubSettings, TargetSettings, read_hub, read_targets
from assent.bootstrap.settings_text import Document, near, quoted, read_document
from assent.bootstrap.settings_web import WEB_KEYS, WebSettings, read_web
from assent.ledger.budget_limits import Limit
from assent.ledger.policy_signatures import Signers
from assent.operations.identity.certificates import Workload
from assent.operations.identity.providers import Provider
from assent.policy.principals import KnownPrincipal, check_principal
from assent.primitives.errors import Malformed, Refused
from assent.primitives.ids import TenantId, tenant
from assent.reasoning.agents import AgentDefinition

if TYPE_CHECKING:
    from assent.bootstrap.node import Blueprint

FILE_NAME = "assent.toml"
FOLDER_VARIABLE = "ASSENT_FOLDER"
SETTINGS_BYTES_MAX = 65_536

DEFAULTS = {
    "tenant": "local",
    "data": ".assent",
    "workspace": "workspace",
    "policy": "policy",
    "connectors": "connectors",
}
KINDS = {"people": "person", "agents": "agent", "services": "service"}
KNOWN_KEYS: dict[str, tuple[str, ...]] = {
    "assent": tuple(DEFAULTS),
    "people": ("roles",),
    "agents": AGENT_KEYS,
    "skills": SKILL_KEYS,
    "services": ("description", "roles"),
    "models": MODEL_KEYS,
    "targets": ALL_KEYS,
    "hub": HUB_KEYS,
    "search": SEARCH_KEYS,
    "web": WEB_KEYS,
    "budgets": BUDGET_KEYS,
    "identity": IDENTITY_KEYS,
    "workloads": WORKLOAD_KEYS,
    "policy": POLICY_KEYS,
    "defaults": ("as", "chat"),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `assent.toml` says, checked. Paths are absolute, links followed.

    `person` is the user of the operating system as a principal; `act_as` is whom `assent do` asks as, and `chat_with`
    the agent that is talked to when nobody names one (empty: the only one there is).
    """

    file: Path
    tenant: TenantId
    data: Path
    workspace: Path
    policy: Path
    connectors: Path
    person: str
    principals: tuple[KnownPrincipal, ...]
    descriptions: Mapping[str, str]
    act_as: str
    chat_with: str = ""
    targets: tuple[TargetSettings, ...] = ()
    hub: HubSettings = HubSettings()
    search: SearchSettings = SearchSettings()
    skills: SkillSettings = SkillSettings()
    web: WebSettings = WebSettings()
    budgets: tuple[Limit, ...] = ()
    models: tuple[ModelSettings, ...] = ()
    agents: tuple[AgentDefinition, ...] = ()
    providers: tuple[Provider, ...] = ()
    workloads: tuple[Workload, ...] = ()
    signers: Signers = Signers()
    policy_by_review: bool = False

    def asking(self, name: str) -> tuple[str, tuple[str, ...]]:
        """The principal that asks as `name` (empty: the default), and the chain it acts for.

        The user of the operating system asks as themself, or as a declared agent or service on their own behalf.

        Raises:
            Refused: `asking_as_another`, `principal_undeclared`.
        """
        name = name or self.act_as
        if name == self.person:
            return name, ()
        if name.startswith("person:"):
            raise Refused(
                "asking_as_another",
                f"you are `{self.person}` and cannot ask as `{quoted(name)}`",
                hint="ask as yourself, or as a declared agent or service",
            )
        known = [principal.name for principal in self.principals if not principal.name.startswith("person:")]
        if name not in known:
            raise Refused(
                "principal_undeclared",
                f"`{quoted(name)}` is not declared in `{self.file.name}`{near(name, [*known, self.person])}",
                hint="declare it there, as `[agents.NAME]` or `[services.NAME]`",
            )
        return name, (self.person,)


def os_login() -> str:
    """The name of the user this process runs as: from the system's own table, never from the environment."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
        check_principal(KnownPrincipal(name=f"person:{name}"))
    except (KeyError, Malformed):
        return f"uid-{os.getuid()}"
    return name


def find_settings(start: Path, *, folder: Path | None, environment: Mapping[str, str]) -> Path:
    """The settings file: in `folder` when one is named, else where `ASSENT_FOLDER` says, else in `start` or above it.

    Raises:
        Malformed: `settings_missing`, or `settings_foreign`: a file was come across that belongs to somebody else.
    """
    named = folder or (Path(environment[FOLDER_VARIABLE]) if environment.get(FOLDER_VARIABLE) else None)
    if named is not None:
        return _named(start / named)
    for place in (start, *start.parents):
        path = place / FILE_NAME
        if path.is_file():
            return _ours(path)
    raise Malformed(
        "settings_missing",
        f"there is no `{FILE_NAME}` in `{start}` or above it",
        hint="run `assent init` to make one here, or name its folder with --folder",
    )


def _named(folder: Path) -> Path:
    path = folder if folder.name == FILE_NAME else folder / FILE_NAME
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):
        pass  # a name that no file can have; the message is the same
    raise Malformed("settings_missing", f"there is no `{path}`", hint=f"run `assent init {folder}` to make one")


def _ours(path: Path) -> Path:
    """Somebody else's file, met on the way up (in /tmp, say), must not decide what runs here."""
    owner = path.stat().st_uid
    if owner not in (0, os.getuid()):
        raise Malformed(
            "settings_foreign",
            f"`{path}` belongs to another user (uid {owner})",
            hint=f"name it with --folder {path.parent} if you trust it",
        )
    return path


def read_settings(path: Path, *, login: str) -> Settings:
    """Read and judge a settings file.

    Raises:
        Malformed: `settings_invalid`, naming every mistake with its line; `settings_unreadable`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(SETTINGS_BYTES_MAX + 1)
    except OSError as error:
        raise Malformed(
            "settings_unreadable", f"`{path}` cannot be read: {(error.strerror or 'no reason given').lower()}",
            hint="check the permissions of the file and its folder",
        ) from error  # fmt: skip
    document = read_document(data, bytes_max=SETTINGS_BYTES_MAX)
    settings = _judge(document, path.parent.resolve() / path.name, login) if not document.faults else None
    if settings is None or document.faults:
        count = len(document.faults)
        lines = "".join(f"\n  {path.name}:{fault}" for fault in document.told())
        raise Malformed(
            "settings_invalid",
            f"`{path}` has {count} mistake{'s' if count > 1 else ''}:{lines}",
            hint="mend the file; nothing was done",
        )
    return settings


def blueprint(settings: Settings) -> Blueprint:
    """What `open_node` needs to know."""
    from assent.bootstrap.connector_folder import ConnectorFolder
    from assent.bootstrap.node import Blueprint
    from assent.bootstrap.offering import offering

    return Blueprint(
        data=settings.data,
        workspace=settings.workspace,
        tenants=(settings.tenant,),
        principals=settings.principals,
        declared=settings.targets,
        hub=settings.hub,
        web=settings.web,
        limits=settings.budgets,
        operations=offering(settings.models, ConnectorFolder(settings.connectors), search=settings.search),
        agents=settings.agents,
        providers=settings.providers,
        workloads=settings.workloads,
        skills=settings.skills,
        signers=settings.signers,
        policy_by_review=settings.policy_by_review,
    )


def _judge(document: Document, file: Path, login: str) -> Settings:
    """Settings from a document. What is wrong is added to the document's faults, and stands in for by a default."""
    document.only((), tuple(KNOWN_KEYS), owners={key: section for section, keys in KNOWN_KEYS.items() for key in keys})
    document.only(("assent",), KNOWN_KEYS["assent"])
    document.only(("defaults",), KNOWN_KEYS["defaults"])
    principals, descriptions = _principals(document, login)
    models = read_models(document, home=file.parent)
    folders = {name: _folder(document, file.parent, name) for name in ("data", "workspace", "policy", "connectors")}
    _keep_apart(document, folders, file)
    agents, search = read_agents(document, models=models, home=file.parent), read_search(document)
    check_tools(document, agents, search)
    return Settings(
        file=file,
        tenant=_tenant(document),
        person=f"person:{login}",
        principals=principals,
        descriptions=descriptions,
        act_as=_act_as(document, principals, login),
        chat_with=_chat_with(document, agents),
        targets=read_targets(document, home=file.parent, workspace=folders["workspace"]),
        hub=read_hub(document),
        search=search,
        skills=read_skills(document, home=file.parent),
        web=read_web(document, home=file.parent, workspace=folders["workspace"]),
        budgets=read_budgets(document, declared={one.name for one in principals}),
        models=models,
        agents=agents,
        providers=read_identity(document, home=file.parent, workspace=folders["workspace"]),
        workloads=read_workloads(document),
        signers=read_signers(document),
        policy_by_review=document.flag(("policy", "by_review"), default=False),
        **folders,
    )


def _tenant(document: Document) -> TenantId:
    key = ("assent", "tenant")
    name = document.text(key, default=DEFAULTS["tenant"])
    try:
        return tenant(name)
    except Malformed as malformed:
        document.fault(key, str(malformed))
        return TenantId(DEFAULTS["tenant"])


def _folder(document: Document, home: Path, name: str) -> Path:
    key = ("assent", name)
    written = document.text(key, default=DEFAULTS[name])
    try:
        return (home / (written or "\0")).resolve()  # an empty path would be the settings' own folder
    except (OSError, ValueError, RuntimeError) as error:
        document.fault(key, f"`{name}` is not a folder's path: {error}")
        return home / DEFAULTS[name]


def _keep_apart(document: Document, folders: Mapping[str, Path], file: Path) -> None:
    workspace = folders["workspace"]
    key = ("assent", "workspace")
    if file.is_relative_to(workspace) or file.resolve().is_relative_to(workspace):
        document.fault(key, f"the workspace `{workspace}` holds these settings, so an agent could change them")
    for name in ("data", "policy", "connectors"):
        folder = folders[name]
        if folder.is_relative_to(workspace):
            place = ("assent", name)
            document.fault(
                place if document.has(place) else key,
                f"the {name} folder `{folder}` lies in the workspace, so an agent could change it",
            )
        elif workspace.is_relative_to(folder):
            document.fault(key, f"the workspace `{workspace}` lies in the {name} folder; they must lie apart")


def _principals(document: Document, login: str) -> tuple[tuple[KnownPrincipal, ...], dict[str, str]]:
    person = f"person:{login}"
    known = {person: KnownPrincipal(name=person)}
    descriptions: dict[str, str] = {}
    for section, kind in KINDS.items():
        for local in document.tables((section,)):
            key = (section, local)
            document.only(key, KNOWN_KEYS[section])
            name = f"{kind}:{local}"
            descriptions[name] = document.text((*key, "description"), default="")
            declared = KnownPrincipal(name=name, roles=document.texts((*key, "roles")))
            try:
                check_principal(declared)
                known[name] = declared
            except Malformed as malformed:
                document.fault(key, str(malformed))
    return tuple(known.values()), {name: text for name, text in descriptions.items() if text}


def _chat_with(document: Document, agents: tuple[AgentDefinition, ...]) -> str:
    """The agent that is talked to when nobody names one; empty: the only one there is."""
    key = ("defaults", "chat")
    name = document.text(key, default="")
    names = [agent.name for agent in agents]
    if name and name not in names:
        document.fault(key, f"`{name}` is no agent that can be talked to{near(name, names)}")
    return name


def _act_as(document: Document, principals: tuple[KnownPrincipal, ...], login: str) -> str:
    key = ("defaults", "as")
    name = document.text(key, default=f"person:{login}")
    if name.startswith("person:") and name != f"person:{login}":
        document.fault(key, f"`{name}` is another person: you can ask as yourself or as an agent or service")
    elif name not in {principal.name for principal in principals}:
        document.fault(key, f"`{name}` is not declared{near(name, [p.name for p in principals])}")
    return name
