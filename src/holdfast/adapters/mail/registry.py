"""Which mailer the settings ask for: a server's, else the development mailbox, else none."""

from holdfast.adapters.mail.offline import Keep, MailboxMailer, NowhereMailer
from holdfast.adapters.mail.protocol import Mailer
from holdfast.adapters.mail.smtp import SmtpMailer
from holdfast.core.settings import Settings


class MailerUnknown(Exception):
    """The settings name no mail server that can be used; the message says what is wrong, without the password."""


def make_mailer(settings: Settings, *, keep: Keep) -> Mailer:
    """The mailer of these settings; `keep` is where a development mailbox puts its mails. Raises MailerUnknown."""
    if settings.smtp_url is not None:
        try:
            return SmtpMailer(settings.smtp_url.get_secret_value())
        except ValueError as error:
            raise MailerUnknown(str(error)) from None
    return MailboxMailer(keep) if settings.development else NowhereMailer()
