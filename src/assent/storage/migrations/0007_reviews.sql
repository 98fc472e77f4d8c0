-- Who must be among the approvers (`demands`, JSON), in whose place each approver answered (`places`, in the order of
-- `approvers`, `-` for their own), whether it was escalated, and whether it looks at what was already done.
ALTER TABLE reviews ADD COLUMN demands TEXT NOT NULL DEFAULT '{}';
ALTER TABLE reviews ADD COLUMN places TEXT NOT NULL DEFAULT '';
ALTER TABLE reviews ADD COLUMN escalated INTEGER NOT NULL DEFAULT 0;
ALTER TABLE reviews ADD COLUMN after INTEGER NOT NULL DEFAULT 0;
