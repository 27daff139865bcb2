"""Which mailer the settings ask for: a server's, else the development mailbox, else none."""

from holdfast.adapters.mail.offline import Keep, MailboxMailer, NowhereMailer
from holdfast.adapters.mail.protocol import Mailer
from holdfast.adapters.mail.smtp import SmtpMailer
from holdfast.core.settings import Settings


def make_mailer(settings: Settings, *, keep: Keep) -> Mailer:
    """The mailer of these settings; `keep` is where a development mailbox puts its mails."""
    if settings.smtp_url is not None:
        return SmtpMailer(settings.smtp_url.get_secret_value())
    return MailboxMailer(keep) if settings.development else NowhereMailer()
