"""Who may do what, and what was done: peers, certificates, logins, the audit trail."""
